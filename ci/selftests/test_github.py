"""What GitHub is told: few annotations, a summary that fits, and nothing that it would obey."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimlens.ci.gate import Decision, Finding
from claimlens.ci.gate_run import Result
from claimlens.ci.github import BYTES, MOST, commands, is_here, write_summary
from claimlens.ci.selftests.records import record
from claimlens.ci.selftests.test_plain_text import HOSTILE
from claimlens.circuits.record import ClaimRecord

COMMAND = re.compile(r"::(error|warning) title=([^:,\r\n]*)::([^\r\n]*)")


def refuted(number: int, reason: str = "0.1 < 0.3") -> ClaimRecord:
    found = record(claim=f"ioi/x-{number}", verdict="refuted", reason=reason)
    found.comparisons[0].verdict = "refuted"
    return found


def result(*findings: Finding, fault: str = "") -> Result:
    return Result("gpt2", Decision.REFUSED, findings, fault)


def broken(key: str = "ioi/x L9H9", reason: str = "0.9 to 0.1") -> Finding:
    return Finding(key, "broken", "holds", "refuted", reason)


def test_only_github_is_told() -> None:
    assert is_here({"GITHUB_ACTIONS": "true"})
    assert not is_here({"GITHUB_ACTIONS": "false"})
    assert not is_here({"CI": "true"})


@pytest.mark.parametrize("count", [0, 1, MOST, MOST + 1, 200])
def test_the_worst_nine_and_how_many_more(count: int) -> None:
    told = commands([record(), *map(refuted, range(count))], [])
    assert len(told) == min(count, MOST)
    assert all(COMMAND.fullmatch(line) for line in told)
    if count > MOST:
        assert told[-1] == f"::error title=claims::and {count - MOST + 1} more: see the log"


def test_of_a_gate_the_findings_are_told_and_not_the_red_claims() -> None:
    unclear = Finding("ioi/y", "unclear", "holds", "undecided", "too near")
    fine = Finding("ioi/z", "unchanged", "refuted", "refuted")
    told = commands([refuted(1)], [result(broken(), unclear, fine)])
    assert told == [
        "::error title=broken%3A ioi/x L9H9::0.9 to 0.1",
        "::warning title=unclear%3A ioi/y::too near",
    ]
    assert commands([refuted(1)], [result(fine)]) == []
    assert commands([], [result(fault="no baseline")]) == [
        "::error title=gate%3A gpt2::no baseline"
    ]


@pytest.mark.parametrize("text", [*HOSTILE, "a\n::error::b", "100%", "x::y,z"], ids=ascii)
def test_hostile_text_stays_inside_of_its_command(text: str) -> None:
    for line in commands([refuted(0, text)], []) + commands([], [result(broken(text, text))]):
        assert COMMAND.fullmatch(line)
        assert line.isprintable()


@given(st.text(max_size=30))
def test_any_text_stays_inside(text: str) -> None:
    (line,) = commands([], [result(broken(text, text))])
    assert COMMAND.fullmatch(line)


def test_a_summary_holds_the_gate_and_the_claims(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    write_summary(file, [record(), refuted(1)], [result(broken())])
    text = file.read_text()
    assert text.startswith("before\n## Gate: gpt2: REFUSED\n")
    assert "| broken | ioi/x L9H9 | holds | refuted | 0.9 to 0.1 |" in text
    assert text.index("| refuted | default | ioi/x\\-1") < text.index("| holds | default | ioi/x")


def test_a_summary_of_very_many_claims_fits_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    write_summary(file, [refuted(i) for i in range(20_000)], [])
    assert BYTES - 1000 < file.stat().st_size <= BYTES
    assert file.read_text().endswith("\n\nThe rest is in the log.\n")
    write_summary(file, [refuted(1)], [])
    assert file.stat().st_size <= BYTES + 100


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "a | b", "`x` **y** [z](http://a)", "a\nb", "&lt;", "#1"]
)
def test_markup_is_shown_as_it_is(text: str, tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    write_summary(file, [], [result(broken("ioi/x", text))])
    (row,) = [line for line in file.read_text().splitlines() if line.startswith("| broken")]
    cell = re.split(r"(?<!\\) \| ", row)[-1].removesuffix(" |")
    assert not re.search(r"<|(?<!\\)[`*|\[]", cell)
    assert html.unescape(re.sub(r"\\(.)", r"\1", cell)) == text.replace("\n", " ")
