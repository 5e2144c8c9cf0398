"""Whatever a token contains, neither a terminal nor a CI obeys it."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimlens.ci.gate import Decision, Finding
from claimlens.ci.gate_run import Result
from claimlens.ci.gate_text import lines
from claimlens.ci.outcomes import explanation
from claimlens.ci.plain_text import shown, shown_line
from claimlens.ci.selftests.records import record

HOSTILE = [
    "::error::hello",
    "  ::add-mask::x",
    "\t::set-output name=x::y",
    "##[group]x",
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "a\rb",
    "\u202eevil",
    "\u2066x\u2069",
    "zero\u200bwidth",
    "\ud83d",
    "\x00",
    "\x9b31m",
    "line\u2028break",
    "bell\x07",
    "\U000e0041tag",
]


def harmless(line: str) -> bool:
    """No command at its beginning, and nothing in it that is not seen."""
    hidden = [c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    return not hidden and not re.match(r"\s*(::|##\[)", line)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_is_shown_and_not_obeyed(text: str) -> None:
    assert not harmless(text)
    assert harmless(shown_line(text))


@given(st.text(st.characters(), max_size=40))
def test_any_text_is_harmless(text: str) -> None:
    assert all(harmless(line) for line in shown(text).split("\n"))


@pytest.mark.parametrize("text", ["", "plain", "Ève said “no”", "日本語", "a::b", "x ##[y", "é̂"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert shown_line(text) == text


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_a_claim_prints_is_harmless(text: str) -> None:
    worst = [{"id": text, "value": 0.1, "text": text}]
    hostile = record(verdict="refuted", reason=text, statement=text, source=text)
    hostile.comparisons[0].verdict, hostile.comparisons[0].worst = "refuted", worst
    assert all(map(harmless, explanation(hostile).split("\n")))


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_the_gate_prints_is_harmless(text: str) -> None:
    finding = Finding(text, "broken", "holds", "refuted", text)
    result = Result(text, Decision.REFUSED, (finding,), "", text, text)
    assert all(map(harmless, lines(result)))
    assert all(map(harmless, lines(Result(text, Decision.UNCLEAR, fault=text))))
