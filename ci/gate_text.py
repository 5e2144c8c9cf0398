"""What the gate prints: the decision first, then every finding that is not as it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from claimlens.ci.gate import Decision, Finding, Outcome
from claimlens.ci.gate_run import Result
from claimlens.ci.plain_text import shown_line

WORDS = {
    Decision.ACCEPTED: "accepted",
    Decision.REFUSED: "REFUSED",
    Decision.UNCLEAR: "NOT ENOUGH EVIDENCE",
}


def lines(result: Result) -> list[str]:
    """The gate of one model, line by line, harmless whatever names and reasons contain."""
    return [shown_line(line.replace("\n", " ")) for line in _lines(result)]


def _lines(result: Result) -> Iterator[str]:
    to = f" ({result.old[:19]} to {result.new[:19]})" if result.new else ""
    yield f"gate: {result.model}{to}: {WORDS[result.decision]}"
    if result.fault:
        yield f"  {result.fault}"
        return
    for finding in result.findings:
        if finding.outcome != "unchanged":
            yield f"  {_line(finding)}"
    counts = Counter(finding.outcome for finding in result.findings)
    yield "  " + ", ".join(f"{counts[o]} {o}" for o in get_args(Outcome) if counts[o])


def _line(finding: Finding) -> str:
    became = finding.new or "not run"
    verdicts = became if finding.old in ("", became) else f"{finding.old}, now {became}"
    return f"{finding.outcome:<10} {finding.key}: {verdicts}{_because(finding)}"


def _because(finding: Finding) -> str:
    return f" ({finding.reason})" if finding.reason else ""
