"""The four intents by which a baseline changes, and what each refuses."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from claimlens.ci.baseline import Accepted, BadBaseline, Baseline, accepted, environment_of
from claimlens.circuits.record import ClaimRecord

Word = Literal["create", "accept", "update", "trim"]


@dataclass(frozen=True)
class Intent:
    """What somebody means to do to a baseline, to which claims, and why."""

    word: Word
    reason: str
    claims: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.word != "trim" and not self.reason.strip():
            raise BadBaseline(
                f"--claims-baseline {self.word} needs a reason, which is kept: "
                "--claims-reason 'why these verdicts are right'"
            )
        if (self.word == "accept") != bool(self.claims):
            raise BadBaseline(
                "--claims-baseline accept takes the claims that it means: --claims-accept ID, as "
                "often as there are claims; no other intent does"
            )


@dataclass(frozen=True)
class Run:
    """A finished run of one model: its records, its name, and why it is only a part, if it is."""

    id: str
    model: str
    records: Sequence[ClaimRecord]
    paths: tuple[str, ...]
    partial: str = ""


def changed(before: Baseline | None, run: Run, intent: Intent) -> Baseline:
    """The baseline after an intent; raises BadBaseline where it is refused.

    `create` takes all verdicts where there was none, `update` all of them again, `accept` those of
    the named claims, `trim` forgets claims that are no more.
    """
    _check_whole(before, run, intent)
    if intent.word == "create":
        if before is not None:
            raise BadBaseline(
                f"there is a baseline of {run.model} already; say update, or accept for one claim"
            )
        return _all(run, intent)
    if before is None:
        raise BadBaseline(f"there is no baseline of {run.model} yet; make it with create")
    if intent.word == "update":
        fresh = _all(run, intent)
        same = {k: before.claims[k] for k in fresh.claims if _same(before.claims.get(k), fresh, k)}
        return replace(fresh, claims={**fresh.claims, **same})
    if intent.word == "trim":
        present = {record.key for record in run.records}
        return replace(before, claims={k: v for k, v in before.claims.items() if k in present})
    return _accepting(before, run, intent)


def _check_whole(before: Baseline | None, run: Run, intent: Intent) -> None:
    if intent.word != "accept" and run.partial:
        raise BadBaseline(f"--claims-baseline {intent.word} takes a whole run: {run.partial}")
    if before is not None and intent.word != "accept" and set(before.paths) != set(run.paths):
        raise BadBaseline(
            f"the baseline is of `pytest {' '.join(before.paths)}`, this run of "
            f"`pytest {' '.join(run.paths)}`"
        )
    named = set(intent.claims)
    missed = [
        r.key
        for r in run.records
        if r.verdict == "not measured" and (not named or named & {r.claim, r.key})
    ]
    if missed and intent.word != "trim":
        raise BadBaseline(
            f"{len(missed)} claims were not measured, first {missed[0]}; a baseline holds verdicts"
        )


def _all(run: Run, intent: Intent) -> Baseline:
    identity = next((r.model for r in run.records if "revision" in r.model), None)
    if identity is None:
        raise BadBaseline(f"no claim was measured on {run.model}")
    return Baseline(
        model=run.model.partition("@")[0],
        revision=str(identity["revision"]),
        run=run.id,
        environment=environment_of(identity),
        paths=sorted(run.paths),
        claims={r.key: _accept(r, intent) for r in run.records},
    )


def _accepting(before: Baseline, run: Run, intent: Intent) -> Baseline:
    claims = dict(before.claims)
    for name in intent.claims:
        mine = [r for r in run.records if name in (r.claim, r.key)]
        if not mine:
            known = [r.key for r in run.records] + [r.claim for r in run.records]
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise BadBaseline(f"--claims-accept {name!r}: this run has no such claim{hint}")
        claims |= {record.key: _accept(record, intent) for record in mine}
    return replace(before, claims=claims)


def _same(old: Accepted | None, fresh: Baseline, key: str) -> bool:
    """Whether nothing changed of a claim but the day: its date and reason stay then."""
    new = fresh.claims[key]
    return old is not None and replace(new, date=old.date, reason=old.reason) == old


def _accept(record: ClaimRecord, intent: Intent) -> Accepted:
    return accepted(record, datetime.now(UTC).date().isoformat(), intent.reason)
