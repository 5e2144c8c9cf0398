"""Measurement: which values count, how they pair, and what data without spread can say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from claimlens.ci.selftests.measured import RELATIONS, around, measured
from claimlens.circuits.verdict import (
    NOISE_FLOOR,
    Ledger,
    Measurement,
    NotMeasured,
    Refuted,
    Relation,
    Undecided,
    Unmet,
)

# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_names_its_prompt(bad: float) -> None:
    values = around(1.0)
    values[7] = bad
    with pytest.raises(NotMeasured, match=r"1 of 30 values are not finite, first in prompt 'p7'"):
        measured(values)


@pytest.mark.parametrize("shape", [(), (29,), (30, 1)])
def test_one_value_per_prompt(shape: tuple[int, ...]) -> None:
    with pytest.raises(NotMeasured, match=r"expected one value per prompt, shape \(30,\)"):
        Measurement(
            np.zeros(shape),
            tuple(f"p{i}" for i in range(30)),
            tuple(f"t{i}" for i in range(30)),
            "logits",
            Ledger(),
        )


def test_constant_data_never_hold() -> None:
    with pytest.raises(NotMeasured, match=r"all 30 prompts give exactly 0\.7"):
        _ = measured([0.7] * 30) >= 0.3


def test_constant_data_up_to_rounding_never_hold() -> None:
    """float32 rounding on equal values is no spread: an interval of width 1e-8 would hold."""
    values = np.full(30, 0.7) + np.random.default_rng(0).uniform(-1, 1, 30) * 1e-12
    with pytest.raises(NotMeasured):
        _ = measured(values) >= 0.3


def test_constant_data_can_refute() -> None:
    with pytest.raises(Refuted):
        assert measured([0.1] * 30) >= 0.3


def test_constant_data_hold_where_they_are_declared_exact() -> None:
    verdict = measured([0.7] * 30, exact=True) >= 0.3
    assert verdict
    assert verdict.interval.low == verdict.interval.high == pytest.approx(0.7)


def test_an_exact_value_has_no_noise_floor() -> None:
    assert measured([0.3 + 1e-7] * 4, exact=True) >= 0.3


@pytest.mark.parametrize("dtype", NOISE_FLOOR)
def test_the_noise_floor_follows_the_dtype(dtype: str) -> None:
    floor = NOISE_FLOOR[dtype]
    ledger = Ledger(floor=floor)
    tight = around(0.01, spread=floor / 10)
    with pytest.raises(Undecided):
        assert measured(tight, ledger) >= 0.01 - floor / 2
    assert measured(tight, ledger) >= 0.01 - 2 * floor


def test_one_template_is_not_enough() -> None:
    values = around(1.0, 10)
    m = Measurement(values, tuple(map(str, range(10))), ("t",) * 10, "logits", Ledger())
    with pytest.raises(NotMeasured, match="share one template"):
        _ = m >= 0.3


def test_shares_are_judged_by_clopper_pearson() -> None:
    verdict = measured([1] * 29 + [0], share=True) >= 0.5
    assert verdict
    assert verdict.interval.method == "Clopper-Pearson"
    with pytest.raises(Undecided):
        assert measured([1] * 5, share=True) >= 0.9


# --- pairs and ratios -----------------------------------------------------------------------------


def test_a_difference_is_taken_prompt_by_prompt() -> None:
    ledger = Ledger()
    shared = around(0, spread=10)
    a, b = measured(shared + around(1, seed=1), ledger), measured(shared, ledger)
    assert a - b >= 0.5
    assert a >= b
    with pytest.raises(Unmet):
        assert a >= 0.5


@pytest.mark.parametrize("relation", RELATIONS)
def test_comparing_two_measurements_is_comparing_their_difference_with_zero(
    relation: Relation,
) -> None:
    ledger = Ledger()
    big, small = measured(around(1.0), ledger), measured(around(0.2, seed=1), ledger)
    _ = {
        ">=": lambda: big >= small,
        ">": lambda: big > small,
        "<=": lambda: small <= big,
        "<": lambda: small < big,
    }[relation]()
    assert ledger.verdicts[0].word == "holds"
    assert ledger.verdicts[0].threshold.value == 0


def test_unpaired_measurements_cannot_be_compared() -> None:
    a, b = measured(around(1.0)), measured(around(0.2), prefix="q")
    for combine in (lambda: a - b, lambda: a / b, lambda: a >= b, lambda: a < b):
        with pytest.raises(NotMeasured, match="unpaired"):
            combine()
    with pytest.raises(NotMeasured, match="30 and 20 prompts"):
        _ = a - measured(around(0.2, 20))


def test_the_same_prompts_in_another_order_are_unpaired() -> None:
    a = measured(around(1.0))
    b = Measurement(a.values, a.ids[::-1], a.templates, a.unit, a.ledger)
    with pytest.raises(NotMeasured, match="unpaired"):
        _ = a - b


def test_different_units_cannot_be_compared() -> None:
    with pytest.raises(NotMeasured, match="different units: 'logits' and 'probability'"):
        _ = measured(around(1.0)) - measured(around(0.2), unit="probability")


def test_a_difference_of_shares_is_no_share() -> None:
    a, b = measured([1, 1, 0, 1] * 8, share=True), measured([1, 0, 0, 1] * 8, share=True)
    assert (a - b).interval().method != "Clopper-Pearson"


def test_a_difference_is_exact_only_where_both_are() -> None:
    exact, sampled = measured([0.7] * 5, exact=True), measured(around(0.2, 5))
    assert (exact - exact).exact
    assert not (exact - sampled).exact
    assert not (sampled - exact).exact


def test_a_ratio_is_the_ratio_of_the_means() -> None:
    a, b = measured([1.0, 2, 3, 4, 1]), measured([4.0, 4, 5, 4, 3])
    assert (a / b).value == pytest.approx(11 / 20)
    assert (a / b).unit == "fraction"
    assert (a / b).value != pytest.approx(np.mean(a.values / b.values))


def test_a_ratio_that_is_nearly_constant_has_a_narrow_interval() -> None:
    rng = np.random.default_rng(0)
    b = rng.uniform(1, 9, 30)
    a = 0.9 * b + rng.normal(0, 0.01, 30)
    found = (measured(a) / measured(b)).interval()
    assert found.high - found.low < 0.01
    assert found.low <= 0.9 <= found.high


@pytest.mark.parametrize("center", [0.0, 0.01, 1e-6])
def test_a_denominator_that_may_be_zero_gives_no_ratio(center: float) -> None:
    with pytest.raises(NotMeasured, match="not clearly away from 0"):
        _ = measured(around(1.0)) / measured(around(center))


def test_a_constant_ratio_never_holds() -> None:
    b = measured(around(2.0))
    with pytest.raises(NotMeasured, match="without spread"):
        _ = measured(0.9 * b.values) / b >= 0.8


def test_a_ratio_cannot_be_subtracted() -> None:
    a, b = measured(around(1.0)), measured(around(2.0, seed=1))
    with pytest.raises(TypeError, match="combine its parts"):
        _ = a / b - a / b


def test_a_ratio_of_ratios_is_refused() -> None:
    """Its numerator would silently lose its own denominators."""
    a, b = measured(around(1.0)), measured(around(2.0, seed=1))
    third = measured(around(3.0, seed=2), unit="fraction")
    with pytest.raises(TypeError, match="combine its parts"):
        _ = (a / b) / third
    with pytest.raises(TypeError, match="combine its parts"):
        _ = third / (a / b)


# --- what is shown --------------------------------------------------------------------------------


def test_the_worst_prompts_are_those_that_speak_most_against_the_claim() -> None:
    values = around(1.0)
    m = measured(values)
    lowest, highest = f"p{values.argmin()}", f"p{values.argmax()}"
    assert (m >= 0.3).worst(1)[0][0] == lowest
    assert (m <= 2).worst(1)[0][0] == highest


def test_the_worst_prompts_of_a_ratio_are_judged_by_the_ratio() -> None:
    b = np.linspace(1, 4, 20)
    a = 0.9 * b + around(0, 20, 0.01)
    a[13] -= 1.0
    assert (measured(a) / measured(b) >= 0.5).worst(1)[0][0] == "p13"


def test_a_verdict_says_value_interval_threshold_and_word() -> None:
    sentence = (measured([0.7] * 4, exact=True) >= 0.3).sentence()
    assert sentence == "0.7 [0.7, 0.7] logits, claimed >= 0.3: holds"
