"""From a verdict to pytest's outcome: which letter, which word, what a failure prints."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

from claimlens.ci.plain_text import shown
from claimlens.circuits.record import ClaimRecord, ComparisonRecord

LETTERS = {
    "holds": ".",
    "refuted": "F",
    "undecided": "U",
    "not specific": "N",
    "not measured": "E",
    "not applicable": "s",
}
"""One letter per verdict; capitals are red."""


@dataclass(frozen=True)
class Outcome:
    """What pytest is told of a claim."""

    outcome: Literal["passed", "failed", "skipped"]
    category: str
    letter: str
    word: str


def outcome_of(record: ClaimRecord) -> Outcome:
    """The pytest outcome of a record: passed where the verdict is the expected one."""
    verdict = record.verdict
    if verdict == "not measured":
        return Outcome("failed", "error", LETTERS[verdict], "NOT MEASURED")
    if verdict == "not applicable":
        return Outcome("skipped", "skipped", LETTERS[verdict], "NOT APPLICABLE")
    if record.as_expected:
        word = "HOLDS" if verdict == "holds" else f"{verdict.upper()} AS EXPECTED"
        return Outcome("passed", "passed", LETTERS["holds"], word)
    if verdict == "holds":
        return Outcome("failed", "failed", LETTERS["refuted"], "HOLDS AGAINST EXPECTATION")
    category = "failed" if verdict == "refuted" else verdict
    return Outcome("failed", category, LETTERS[verdict], verdict.upper())


def failed(record: ClaimRecord) -> bool:
    """Whether a claim is red."""
    return outcome_of(record).outcome == "failed"


def explanation(record: ClaimRecord) -> str:
    """What a claim that is not green prints in place of a traceback."""
    lines = [record.statement.split("\n\n")[0].replace("\n", " "), ""]
    if record.verdict == "holds":
        lines += [f"it holds, but its marker expects {record.expected!r} of this model", ""]
    lines += [f"{record.verdict}: {record.reason}"] if record.reason else [record.verdict]
    for comparison in record.comparisons:
        lines += ["", f"  assert {comparison.expression}", f"  {facts(comparison)}"]
        if comparison.verdict != "holds":
            lines += [
                f"    worst prompt {w['id']}: {w['value']:.4g}  {w['text']}"
                for w in comparison.worst
            ]
    if record.engine:
        ways = [f"{sweep} by {way}" for sweep, way in record.engine.items()]
        lines += ["", f"  sweeps: {'; '.join(ways)}"]
    if record.memory:
        lines += ["", f"  {record.memory}"]
    lines += ["", f"  source: {record.source}", f"  rerun:  {rerun(record)}"]
    return shown("\n".join(lines))


def facts(comparison: ComparisonRecord) -> str:
    """`0.41 [0.32, 0.50] probability, claimed >= 0.3, n=128, BCa over 64 clusters: holds`."""
    c = comparison
    return (
        f"{c.value:.4g} [{c.low:.4g}, {c.high:.4g}] {c.unit}, claimed {c.relation} "
        f"{c.threshold:g}, n={c.n}, {c.method}, level {c.level:.4g}: {c.verdict}"
    )


def rerun(record: ClaimRecord) -> str:
    """The command that runs this one claim again."""
    words = ["pytest", record.nodeid, "--claims-model", record.model_name]
    return shlex.join([*words, "--claims-seed", str(record.seed)])
