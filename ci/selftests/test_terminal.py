"""What the line of one claim says."""

from dataclasses import replace

from claimlens.ci.terminal import _summary
from claimlens.circuits.record import ClaimRecord, ComparisonRecord

FIRST = ComparisonRecord(
    "m >= 1", 2.0, 1.5, 2.5, 0.99, "t", ">=", 1.0, "logits", 64, "holds", asserted=True
)
NOTE = "a claim of kind identity has no model control"


def record(*comparisons: ComparisonRecord, verdict: str = "holds") -> ClaimRecord:
    found = ClaimRecord("a/b", "x.py::test", "identity", "Says.", "here", verdict)
    found.comparisons, found.controls_note = list(comparisons), NOTE
    return found


def test_a_claim_that_holds_without_controls_says_so() -> None:
    assert NOTE in _summary(record(FIRST))


def test_a_claim_that_does_not_hold_does_not_speak_of_controls() -> None:
    failing = replace(FIRST, verdict="refuted", threshold=9.0)
    assert NOTE not in _summary(record(failing, verdict="refuted"))


def test_the_comparison_that_decides_is_the_one_shown() -> None:
    failing = replace(FIRST, verdict="refuted", threshold=9.0)
    assert ">= 9" in _summary(record(FIRST, failing, verdict="refuted"))
    assert ">= 1" in _summary(record(FIRST, replace(FIRST, threshold=0.5)))


def test_a_line_says_what_was_expected_instead_and_that_its_source_is_fragile() -> None:
    known_falsehood = record(FIRST)
    known_falsehood.expected, known_falsehood.caveat = "refuted", "read from a figure"
    assert _summary(known_falsehood).endswith("expected: refuted  fragile source")
    assert "expected" not in _summary(record(FIRST))
    assert "fragile" not in _summary(record(FIRST))
