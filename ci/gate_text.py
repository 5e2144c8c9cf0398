"""What the gate prints: the decision first, then every finding that is not as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from claimlens.ci.gate import Decision, Finding, counted
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
            yield f"  {line_of(finding)}"
    yield f"  {totals(result.findings)}"


def line_of(finding: Finding) -> str:
    """`broken     ioi/logit-diff: holds, now refuted (why)`."""
    because = f" ({finding.reason})" if finding.reason else ""
    return f"{finding.outcome:<10} {finding.key}: {finding.verdicts}{because}"


def totals(findings: Sequence[Finding]) -> str:
    """`1 broken, 30 unchanged`."""
    return ", ".join(f"{n} {outcome}" for outcome, n in counted(findings))
