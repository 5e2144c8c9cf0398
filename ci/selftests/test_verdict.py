"""Threshold and Verdict: no way of writing a comparison turns a failure green."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimlens.ci.selftests.measured import MIRRORED, RELATIONS, around, measured
from claimlens.circuits.statistics import Interval
from claimlens.circuits.verdict import (
    NOISE_FLOOR,
    Ledger,
    Measurement,
    NotMeasured,
    Refuted,
    Relation,
    Threshold,
    Undecided,
    Unmet,
    Verdict,
)

# --- Threshold ------------------------------------------------------------------------------------

SIDES = {
    # relation: verdict of the interval [low, high] that touches the threshold 1 from above, below
    ">=": ("holds", "undecided"),
    ">": ("undecided", "refuted"),
    "<=": ("undecided", "holds"),
    "<": ("refuted", "undecided"),
}


@pytest.mark.parametrize("relation", RELATIONS)
def test_an_interval_that_ends_on_the_threshold(relation: Relation) -> None:
    limit, (above, below) = Threshold(relation, 1.0), SIDES[relation]
    assert limit.decide(Interval(1.5, 1.0, 2.0, 0.99, ""), 0) == above
    assert limit.decide(Interval(0.5, 0.0, 1.0, 0.99, ""), 0) == below


@pytest.mark.parametrize("relation", RELATIONS)
def test_an_interval_one_step_past_the_threshold(relation: Relation) -> None:
    limit, up = Threshold(relation, 1.0), relation in (">=", ">")
    just_above, just_below = math.nextafter(1.0, 2), math.nextafter(1.0, 0)
    over = limit.decide(Interval(1.5, just_above, 2.0, 0.99, ""), 0)
    under = limit.decide(Interval(0.5, 0.0, just_below, 0.99, ""), 0)
    assert (over, under) == (("holds", "refuted") if up else ("refuted", "holds"))


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_threshold_inside_the_interval_is_undecided(relation: Relation) -> None:
    assert Threshold(relation, 1.0).decide(Interval(1.4, 0.9, 1.9, 0.99, ""), 0) == "undecided"


@pytest.mark.parametrize("relation", RELATIONS)
def test_an_exact_value_on_the_threshold_is_decided_by_the_relation(relation: Relation) -> None:
    point = Interval(1.0, 1.0, 1.0, 0.99, "exact")
    assert Threshold(relation, 1.0).decide(point, 0) == ("holds" if "=" in relation else "refuted")


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_closer_than_the_noise_floor_is_undecided(relation: Relation, sign: int) -> None:
    floor = NOISE_FLOOR["float32"]
    near, far = 1 + 0.9 * sign * floor, 1 + 1.1 * sign * floor
    limit = Threshold(relation, 1.0)
    assert limit.decide(Interval(near, near, near, 0.99, ""), floor) == "undecided"
    assert limit.decide(Interval(far, far, far, 0.99, ""), floor) != "undecided"


ENDS = st.tuples(st.floats(-5, 5), st.floats(-5, 5)).map(sorted)


@given(ENDS, st.floats(-5, 5), st.sampled_from(RELATIONS))
def test_mirroring_the_axis_mirrors_the_relation(
    ends: list[float], threshold: float, relation: Relation
) -> None:
    low, high = ends
    straight = Threshold(relation, threshold).decide(Interval(low, low, high, 0.9, ""), 0)
    mirrored = Threshold(MIRRORED[relation], -threshold).decide(
        Interval(-low, -high, -low, 0.9, ""), 0
    )
    assert straight == mirrored


@given(ENDS, st.floats(-5, 5))
def test_opposite_relations_never_both_hold(ends: list[float], threshold: float) -> None:
    found = Interval(ends[0], ends[0], ends[1], 0.9, "")
    words = {relation: Threshold(relation, threshold).decide(found, 0) for relation in RELATIONS}
    opposite = {"holds": "refuted", "refuted": "holds", "undecided": "undecided"}
    assert words["<"] == opposite[words[">="]]
    assert words["<="] == opposite[words[">"]]


# --- a Verdict is true or raises ------------------------------------------------------------------


@pytest.mark.parametrize("n", [6, 30])
def test_a_comparison_that_holds_is_true(n: int) -> None:
    ledger = Ledger()
    assert measured(around(1.0, n), ledger) >= 0.3
    assert measured(around(1.0, n), ledger) <= 2
    assert ledger.word() == "holds"


def test_a_comparison_that_does_not_hold_raises_instead_of_being_false() -> None:
    with pytest.raises(Refuted, match=r"claimed >= 2: refuted"):
        bool(measured(around(1.0)) >= 2)
    with pytest.raises(Undecided, match="undecided"):
        bool(measured(around(1.0)) >= 1.001)


def test_unmet_verdicts_are_assertion_errors_that_carry_the_verdict() -> None:
    with pytest.raises(AssertionError) as caught:
        assert measured(around(1.0)) >= 2
    assert isinstance(caught.value, Unmet)
    assert caught.value.verdict.word == "refuted"


EVASIONS: dict[str, Callable[[Measurement], object]] = {
    "not": lambda m: not (m > 2),
    "or": lambda m: m > 2 or True,
    "and": lambda m: True and m > 2,
    "ternary": lambda m: "green" if m > 2 else "also green",
    "any": lambda m: any([m > 2, True]),
    "all": lambda m: all([m > 2]),
    "bool": lambda m: bool(m > 2) or True,
    "chained": lambda m: 0 < m < 0.5 or True,
    "mirrored": lambda m: 2 < m or True,  # noqa: SIM300  (the mirrored form is the test)
    "sorted in": lambda m: True in [bool(m > 2), True],
}


@pytest.mark.parametrize("evasion", EVASIONS.values(), ids=EVASIONS.keys())
def test_no_operator_gets_past_a_refuted_comparison(
    evasion: Callable[[Measurement], object],
) -> None:
    with pytest.raises(Refuted):
        bool(evasion(measured(around(1.0))))


def test_a_swallowed_refutation_stays_in_the_ledger() -> None:
    ledger = Ledger()
    with pytest.raises(Refuted):
        assert measured(around(1.0), ledger) >= 2
    assert measured(around(1.0), ledger) >= 0.3
    assert ledger.word() == "refuted"


def test_a_measurement_is_not_true_or_false() -> None:
    with pytest.raises(TypeError, match="compare it with a threshold"):
        assert measured(around(1.0))
    with pytest.raises(TypeError, match="compare it with a threshold"):
        _ = not measured(around(1.0))


@pytest.mark.parametrize("other", [1.0, None, "x"])
def test_equality_is_an_error(other: object) -> None:
    with pytest.raises(TypeError, match=r"never =="):
        _ = measured(around(1.0)) == other
    with pytest.raises(TypeError, match=r"never =="):
        _ = measured(around(1.0)) != other


def test_a_measurement_cannot_be_put_in_a_set() -> None:
    with pytest.raises(TypeError):
        _ = {measured(around(1.0))}


@pytest.mark.parametrize("threshold", [True, False])
def test_a_truth_value_is_no_threshold(threshold: bool) -> None:
    with pytest.raises(TypeError, match="expected a number or a measurement, got bool"):
        _ = measured(around(1.0)) >= threshold


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf])
def test_a_threshold_is_finite(threshold: float) -> None:
    with pytest.raises(NotMeasured, match="expected a finite number"):
        _ = measured(around(1.0)) >= threshold


def test_a_string_is_no_threshold() -> None:
    with pytest.raises(TypeError, match="got str"):
        _ = measured(around(1.0)) >= "0.3"  # type: ignore[operator]  # the mistake under test


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_threshold_on_the_left_mirrors_the_relation(relation: Relation) -> None:
    ledger = Ledger()
    m = measured(around(1.0), ledger)
    mirrored: dict[Relation, Callable[[], Verdict]] = {
        ">=": lambda: 2 >= m,  # noqa: SIM300  (the mirrored form is the test)
        ">": lambda: 2 > m,  # noqa: SIM300
        "<=": lambda: 0 <= m,  # noqa: SIM300
        "<": lambda: 0 < m,  # noqa: SIM300
    }
    mirrored[relation]()
    assert ledger.verdicts[0].threshold.relation == MIRRORED[relation]
    assert ledger.verdicts[0].word == "holds"


def test_a_chained_comparison_asserts_both_ends() -> None:
    ledger = Ledger()
    assert 0.3 <= measured(around(1.0), ledger) <= 2
    assert [str(v.threshold) for v in ledger.verdicts] == [">= 0.3", "<= 2"]
    assert all(v.asserted for v in ledger.verdicts)


def test_the_verdict_knows_the_line_of_its_comparison() -> None:
    frame = inspect.currentframe()
    assert frame is not None
    m = measured(around(1.0))
    here = frame.f_lineno
    verdicts = [m >= 0.3, 0.3 <= m, m >= m - m]  # noqa: SIM300  (the mirrored form is the test)
    assert {verdict.line for verdict in verdicts} == {here + 1}


# --- the verdict of a claim -----------------------------------------------------------------------


def test_nothing_compared_is_not_measured() -> None:
    assert Ledger().word() == "not measured"


def test_a_comparison_that_was_never_asserted_is_not_measured() -> None:
    ledger = Ledger()
    assert measured(around(1.0), ledger) >= 0.3
    _ = measured(around(1.0), ledger) >= 0.3
    assert ledger.word() == "not measured"


@pytest.mark.parametrize(
    ("thresholds", "worst"),
    [
        ((0.3, 0.5), "holds"),
        ((0.3, 1.001), "undecided"),
        ((1.001, 2), "refuted"),
        ((2, 0.3), "refuted"),
    ],
)
def test_the_verdict_of_a_claim_is_the_worst_of_its_comparisons(
    thresholds: tuple[float, float], worst: str
) -> None:
    ledger = Ledger()
    for threshold in thresholds:
        try:
            bool(measured(around(1.0), ledger) >= threshold)
        except Unmet:
            continue
    assert ledger.word() == worst
