"""What one claim on one model looks like in a table: a sign, a colour, a few words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from claimlens.ci.outcomes import outcome_of
from claimlens.ci.report.study import Result
from claimlens.circuits.record import WORDS, ClaimRecord, ComparisonRecord, Word

SIGNS: dict[Word, str] = {
    "holds": "✓",
    "refuted": "✗",
    "undecided": "?",
    "not specific": "≈",
    "not measured": "!",
    "not applicable": "\N{MIDDLE DOT}",
}
"""A shape for each verdict, so that colour is not needed to tell them apart."""
GRAVEST: Sequence[Word] = (
    "not measured", "refuted", "not specific", "undecided", "holds", "not applicable",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """The results of a claim on one model: the gravest verdict, and of how many heads."""

    verdict: Word
    sign: str
    style: str
    count: str
    told: str
    was: str = ""

    @classmethod
    def of(cls, results: Sequence[Result], accepted: Sequence[str] = ()) -> Cell:
        """Of one claim's heads; `accepted` are their verdicts in the baseline, if there is one."""
        records = [result.record for result in results]
        verdict = gravest(records)
        same = sum(record.verdict == verdict for record in records)
        count = f"{same}/{len(records)}" if len(records) > 1 else ""
        before = {word for word in accepted if word} - {record.verdict for record in records}
        return cls(
            verdict,
            SIGNS[verdict],
            style_of(verdict, all(outcome_of(r).outcome != "failed" for r in records)),
            count,
            "; ".join(told(record) for record in records[:3]),
            ", ".join(sorted(before)),
        )


def gravest(records: Sequence[ClaimRecord]) -> Word:
    """The verdict that weighs most among some records."""
    found = {record.verdict for record in records}
    return next(word for word in GRAVEST if word in found)


def style_of(verdict: Word, expected: bool) -> str:
    """The class of a verdict's colour; what is as expected of this model is not loud."""
    name = f"v{WORDS.index(verdict)}"
    return f"{name} asked" if expected and verdict not in ("holds", "not applicable") else name


def told(record: ClaimRecord) -> str:
    """`L2H0 0.41 [0.32, 0.5] >= 0.3, n=128`, or why there is no number."""
    head = f"{record.head} " if record.head else ""
    c = record.deciding
    if c is None:
        return f"{head}{record.reason}"
    between = f"[{c.low:.3g}, {c.high:.3g}]"
    return f"{head}{c.value:.3g} {between} {c.relation} {c.threshold:g}, n={c.n}"


def margin(comparison: ComparisonRecord) -> float:
    """How far the value lies on the claimed side of its threshold, in its unit."""
    apart = comparison.value - comparison.threshold
    return apart if comparison.relation in (">=", ">") else -apart
