"""The gate: what became of every finding between a model and its update, and what follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from typing import Any, Literal

from claimlens.ci.baseline import Accepted, Baseline, environment_of
from claimlens.ci.comparing import LEVEL, Change, Side, Unpaired, change_of, holm
from claimlens.circuits.record import ClaimRecord, PromptsRecord

Outcome = Literal[
    "unchanged", "weakened", "broken", "repaired", "moved", "new", "missing", "unclear"
]
GRAVEST_FIRST: tuple[Outcome, ...] = (
    "broken", "unclear", "missing", "weakened", "moved", "new", "repaired", "unchanged",
)  # fmt: skip
"""The order in which a reader wants to be told of them."""
FELT = 0.1
"""Of the distance to its threshold, what a finding that still holds may lose and be unchanged."""


class Decision(IntEnum):
    """What the gate says of an update: its exit code under `enforce`."""

    ACCEPTED = 0
    REFUSED = 10
    UNCLEAR = 11


GRAVEST = (Decision.REFUSED, Decision.UNCLEAR, Decision.ACCEPTED)
FOLLOWS: dict[Outcome, Decision] = {
    "unchanged": Decision.ACCEPTED,
    "weakened": Decision.ACCEPTED,
    "repaired": Decision.ACCEPTED,
    "moved": Decision.ACCEPTED,
    "new": Decision.ACCEPTED,
    "broken": Decision.REFUSED,
    "missing": Decision.UNCLEAR,
    "unclear": Decision.UNCLEAR,
}


@dataclass(frozen=True)
class Measured:
    """One model's records by claim and head, with the prompts that they name."""

    records: Mapping[str, ClaimRecord]
    prompts: Mapping[str, PromptsRecord]

    @classmethod
    def of(
        cls, records: Sequence[ClaimRecord], prompts: Mapping[str, PromptsRecord], model: str
    ) -> Measured:
        """Those of one model."""
        mine = {r.key: r for r in records if r.model_name == model}
        return cls(mine, prompts)


@dataclass(frozen=True)
class Finding:
    """What became of one claim; of one that moved, `there` is the head that it holds of now."""

    key: str
    outcome: Outcome
    old: str
    new: str
    reason: str = ""
    changes: tuple[Change, ...] = field(default_factory=tuple)
    there: str = ""

    @property
    def decision(self) -> Decision:
        """What follows from it."""
        red = self.outcome == "new" and self.new not in ("holds", "not applicable")
        return Decision.UNCLEAR if red else FOLLOWS[self.outcome]

    @property
    def verdicts(self) -> str:
        """`holds, now refuted`, or the one verdict that it had and has."""
        became = self.new or "not run"
        return became if self.old in ("", became) else f"{self.old}, now {became}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "changes": [change.to_json() for change in self.changes]}


def counted(findings: Sequence[Finding]) -> list[tuple[Outcome, int]]:
    """How many there are of each outcome that there is, the gravest first."""
    counts = Counter(finding.outcome for finding in findings)
    return [(outcome, counts[outcome]) for outcome in GRAVEST_FIRST if counts[outcome]]


def decide(findings: Sequence[Finding]) -> Decision:
    """What follows from all: a broken finding beats one that is unclear."""
    return worst([finding.decision for finding in findings])


def worst(decisions: Sequence[Decision]) -> Decision:
    """The one that weighs most; nothing to decide is accepted."""
    return min(decisions, key=GRAVEST.index, default=Decision.ACCEPTED)


def judge(baseline: Baseline, old: Measured | None, new: Measured) -> list[Finding]:
    """What became of every claim of the baseline and of the new run, the gravest first.

    `old` is the accepted model's own run: without it there is no paired comparison, and a finding
    that no longer holds is unclear, not broken.
    """
    changes, faults = _changes(old, new)
    found = [
        _judged(
            key,
            baseline.claims.get(key),
            new.records.get(key),
            changes.get(key, ()),
            faults.get(key, "the accepted model's values are not at hand"),
        )
        for key in {**baseline.claims, **new.records}
    ]
    return in_order(found)


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """The gravest first."""
    return sorted(findings, key=lambda f: (GRAVEST.index(f.decision), -_gravity(f), f.key))


def not_comparable(baseline: Baseline, new: Measured) -> str:
    """Why two environments cannot be compared; empty where they can."""
    measured = [r.model for r in new.records.values() if "revision" in r.model]
    if not measured:
        return ""
    here = environment_of(measured[0])
    apart = [
        f"{name} was {baseline.environment.get(name)}, is {here[name]}"
        for name in here
        if baseline.environment.get(name) != here[name]
    ]
    return "; ".join(apart)


def _changes(
    old: Measured | None, new: Measured
) -> tuple[dict[str, tuple[Change, ...]], dict[str, str]]:
    """The changes of every claim that both have, adjusted together; and why some have none."""
    each, faults = list[tuple[str, Change]](), dict[str, str]()
    for key, record in new.records.items():
        before = old.records.get(key) if old else None
        if old is None or before is None:
            continue
        try:
            each += [(key, change) for change in paired(before, old, record, new)]
        except Unpaired as error:
            faults[key] = str(error)
    found: dict[str, tuple[Change, ...]] = {}
    for (key, change), p in zip(each, holm([change.p for _, change in each]), strict=True):
        found[key] = (*found.get(key, ()), replace(change, adjusted=p))
    return found, faults


def paired(before: ClaimRecord, old: Measured, after: ClaimRecord, new: Measured) -> list[Change]:
    """The change of each comparison that two records of a claim share; raises Unpaired."""
    now = {c.expression: c for c in after.comparisons}
    dtype = str(after.model.get("dtype", "float32"))
    pairs = [(c, now[c.expression]) for c in before.comparisons if c.expression in now]
    return [
        change_of(
            Side(then, _prompts(old, then.prompts)), Side(here, _prompts(new, here.prompts)), dtype
        )
        for then, here in pairs
    ]


def _prompts(of: Measured, digest: str) -> PromptsRecord:
    if digest not in of.prompts:
        raise Unpaired("a run file does not hold the prompts that its values belong to")
    return of.prompts[digest]


def _judged(
    key: str,
    before: Accepted | None,
    record: ClaimRecord | None,
    changes: tuple[Change, ...],
    unpaired: str,
) -> Finding:
    """What became of one claim."""
    old = before.verdict if before else ""
    if record is None:
        return Finding(key, "missing", old, "", "it was not run")
    now = record.verdict
    if before is None:
        return Finding(key, "new", old, now, record.reason, changes)
    outcome, reason = _outcome(before, record, changes, unpaired)
    if before.source_digest != record.source_digest:
        stale = "the claim was changed since the baseline"
        reason = f"{reason}; {stale}" if reason else stale
    return Finding(key, outcome, old, now, reason, changes)


def _outcome(
    before: Accepted, record: ClaimRecord, changes: tuple[Change, ...], unpaired: str
) -> tuple[Outcome, str]:
    worse = [c for c in changes if c.worse and c.adjusted <= 1 - LEVEL]
    if before.verdict != "holds":
        return ("repaired", "") if record.verdict == "holds" else ("unchanged", record.reason)
    if record.verdict == "holds":
        lost = [c for c in worse if c.share >= FELT]
        return ("weakened", _told(lost[0])) if lost else ("unchanged", "")
    if record.verdict in ("not applicable", "not specific"):
        return "broken", record.reason
    if record.verdict == "refuted" and worse:
        return "broken", _told(worse[0])
    if record.verdict == "refuted":
        why = "no change that chance would not make" if changes else unpaired
        return "unclear", f"{record.reason}; {why}"
    return "unclear", record.reason


def _told(change: Change) -> str:
    """`logit_diff >= 3: 4.1 to 2.2 logits, -1.9 [-2.1, -1.7], p 1e-09`."""
    return (
        f"{change.expression}: {change.old:.3g} to {change.new:.3g} {change.unit}, "
        f"{change.difference:+.3g} [{change.low:.3g}, {change.high:.3g}], p {change.adjusted:.1g}"
    )


def _gravity(finding: Finding) -> float:
    """How much of its distance to the threshold a finding lost."""
    return max((c.share for c in finding.changes if c.worse), default=0.0)
