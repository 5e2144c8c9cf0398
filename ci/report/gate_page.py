"""The page of a comparison: what became of every finding since the baseline, the gravest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from claimlens.ci.comparing import Change
from claimlens.ci.gate import Decision, Finding, Outcome, counted
from claimlens.ci.gate_run import Result
from claimlens.ci.gate_text import WORDS, totals
from claimlens.ci.report.change_picture import ChangePicture
from claimlens.ci.report.move_picture import MovePicture
from claimlens.ci.report.names import page_of
from claimlens.ci.report.study import Study
from claimlens.circuits.record import ClaimRecord

PAGE, MOST = "gate.html", 2000
"""Findings that a page lists; of those that are unchanged, what is left of it."""
OUTCOME_SIGNS: dict[Outcome, str] = {
    "broken": "✗",
    "unclear": "?",
    "missing": "!",
    "weakened": "↓",
    "moved": "→",
    "new": "+",
    "repaired": "↑",
    "unchanged": "=",
}
STYLES = {Decision.REFUSED: "v1", Decision.UNCLEAR: "v2", Decision.ACCEPTED: "v0"}
"""The class of the colour of what follows."""
SIGNS = {Decision.REFUSED: "✗", Decision.UNCLEAR: "?", Decision.ACCEPTED: "✓"}


@dataclass(frozen=True)
class Paired:
    """A comparison on both models, and its picture where its threshold is known."""

    change: Change
    picture: ChangePicture | None


@dataclass(frozen=True)
class Line:
    """One finding: what became of it, where its page is, and its changes."""

    finding: Finding
    sign: str
    style: str
    page: str
    paired: Sequence[Paired]


@dataclass(frozen=True)
class Compared:
    """One model against its baseline."""

    result: Result
    word: str
    sign: str
    style: str
    counts: Sequence[tuple[str, str, int]]
    changed: Sequence[Line]
    same: Sequence[Line]
    left_out: int
    moves: MovePicture | None


def comparisons(study: Study, results: Sequence[Result]) -> list[Compared]:
    """What the page shows of each model."""
    return [_compared(study, result) for result in results]


def summaries(results: Sequence[Result]) -> list[tuple[str, str, str]]:
    """Class, sign and sentence of each model, for the first page."""
    return [(STYLES[r.decision], SIGNS[r.decision], sentence(r)) for r in results]


def sentence(result: Result) -> str:
    """`default: REFUSED, 2 broken, 1 moved, 30 unchanged`, or why there is no comparison."""
    told = result.fault or totals(result.findings)
    return f"{result.model}: {WORDS[result.decision]}, {told}"


def _compared(study: Study, result: Result) -> Compared:
    records = {
        r.record.key: r.record for r in study.results() if r.record.model_name == result.model
    }
    lines = [_line(finding, records.get(finding.key)) for finding in result.findings]
    changed = [line for line in lines if line.finding.outcome != "unchanged"]
    same = [line for line in lines if line.finding.outcome == "unchanged"]
    room = max(0, MOST - len(changed))
    return Compared(
        result,
        WORDS[result.decision],
        SIGNS[result.decision],
        STYLES[result.decision],
        [(OUTCOME_SIGNS[outcome], outcome, n) for outcome, n in counted(result.findings)],
        changed[:MOST],
        same[:room],
        len(changed[MOST:]) + len(same[room:]),
        MovePicture.of(list(_moves(result, records)), _heads(records)),
    )


def _line(finding: Finding, record: ClaimRecord | None) -> Line:
    claim = finding.key.partition(" ")[0]
    return Line(
        finding,
        OUTCOME_SIGNS[finding.outcome],
        STYLES[finding.decision],
        page_of(claim) if record else "",
        [_paired(change, record) for change in finding.changes],
    )


def _paired(change: Change, record: ClaimRecord | None) -> Paired:
    held = record.comparisons if record else []
    c = next((c for c in held if c.expression == change.expression), None)
    picture = ChangePicture.of(change.old, change.new, c.threshold, c.relation) if c else None
    return Paired(change, picture)


def _moves(result: Result, records: Mapping[str, ClaimRecord]) -> Iterator[tuple[str, str, str]]:
    """Role, old head and new head, each once."""
    seen = set[tuple[str, str, str]]()
    for finding in result.findings:
        claim, _, head = finding.key.partition(" ")
        if finding.outcome == "moved" and head and finding.there:
            record = records.get(finding.key)
            move = (record.role if record and record.role else claim, head, finding.there)
            if move not in seen:
                seen.add(move)
                yield move


def _heads(records: Mapping[str, ClaimRecord]) -> set[str]:
    """The heads of the model that its records name: those tried show how large it is."""
    return {head for record in records.values() for head in record.head_values}
