"""Intervals: they cover the truth as often as they say, and clusters count, not prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray
from scipy import stats

from claimlens.circuits.statistics import (
    FEW_CLUSTERS,
    Interval,
    constant,
    interval,
    share_interval,
)

Draw = Callable[[np.random.Generator], tuple[ndarray, ndarray, list[str]]]


def one_each(n: int) -> list[str]:
    """Every prompt its own template."""
    return [f"t{i}" for i in range(n)]


def coverage(draw: Draw, truth: float, level: float, runs: int) -> float:
    """The share of seeded data sets whose interval contains the truth."""
    hits = 0
    for seed in range(runs):
        x, y, templates = draw(np.random.default_rng(seed))
        found = interval(x, y, templates, level, seed)
        hits += found.low <= truth <= found.high
    return hits / runs


def within(share: float, level: float, runs: int, slack: float = 0.0) -> bool:
    """Whether a simulated coverage is the stated level, up to 4 standard errors and a bias."""
    return abs(share - level) <= 4 * math.sqrt(level * (1 - level) / runs) + slack


# --- coverage ------------------------------------------------------------------------------------


def test_t_interval_covers_a_normal_mean_at_its_level() -> None:
    def draw(rng: np.random.Generator) -> tuple[ndarray, ndarray, list[str]]:
        return rng.normal(3, 2, 8), np.ones(8), one_each(8)

    assert within(coverage(draw, 3, 0.9, 2000), 0.9, 2000)


def test_t_interval_of_independent_prompts_is_students() -> None:
    x = np.random.default_rng(0).normal(3, 2, 8)
    found = interval(x, np.ones(8), one_each(8), 0.99, 0)
    student = stats.ttest_1samp(x, 0).confidence_interval(0.99)
    assert (found.low, found.high) == pytest.approx((student.low, student.high))


def test_bca_interval_covers_a_skewed_mean_at_its_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exponential data, 40 clusters: BCa is second-order accurate, so two points of bias remain."""
    monkeypatch.setattr("claimlens.circuits.statistics.RESAMPLES", 1999)

    def draw(rng: np.random.Generator) -> tuple[ndarray, ndarray, list[str]]:
        return rng.exponential(1, 40), np.ones(40), one_each(40)

    assert within(coverage(draw, 1, 0.9, 250), 0.9, 250, slack=0.02)


@pytest.mark.parametrize("clusters", [8, 30])
def test_intervals_cover_where_prompts_of_a_template_agree(
    clusters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template's own effect is four fifths of the variance; six prompts per template."""
    monkeypatch.setattr("claimlens.circuits.statistics.RESAMPLES", 1999)
    runs = 1500 if clusters < FEW_CLUSTERS else 200
    templates = [f"t{i // 6}" for i in range(6 * clusters)]

    def draw(rng: np.random.Generator) -> tuple[ndarray, ndarray, list[str]]:
        x = np.repeat(rng.normal(0, 2, clusters), 6) + rng.normal(0, 1, 6 * clusters)
        return x, np.ones(len(x)), templates

    assert within(coverage(draw, 0, 0.9, runs), 0.9, runs, slack=0.02)


def test_ignoring_clusters_would_not_cover() -> None:
    """The simulation above can fail: with every prompt its own cluster it does."""

    def draw(rng: np.random.Generator) -> tuple[ndarray, ndarray, list[str]]:
        x = np.repeat(rng.normal(0, 2, 3), 6) + rng.normal(0, 1, 18)
        return x, np.ones(18), one_each(18)

    assert coverage(draw, 0, 0.9, 500) < 0.7


def test_ratio_interval_covers_the_ratio_of_means() -> None:
    def draw(rng: np.random.Generator) -> tuple[ndarray, ndarray, list[str]]:
        y = rng.normal(4, 0.5, 15)
        return 0.6 * y + rng.normal(0, 0.3, 15), y, one_each(15)

    assert within(coverage(draw, 0.6, 0.9, 1500), 0.9, 1500, slack=0.01)


@pytest.mark.parametrize("p", [0.02, 0.3, 0.5, 0.97])
@pytest.mark.parametrize("level", [0.9, 0.99])
def test_clopper_pearson_never_covers_less_than_its_level(p: float, level: float) -> None:
    """Exact: the coverage is summed over every possible count, not simulated."""
    n = 40
    covered = 0.0
    for k in range(n + 1):
        found = share_interval(np.arange(n) < k, one_each(n), level)
        if found.low <= p <= found.high:
            covered += float(stats.binom.pmf(k, n, p))
    assert covered >= level


@pytest.mark.parametrize("k", [0, 1, 17, 39, 40])
def test_clopper_pearson_agrees_with_scipy_where_prompts_are_independent(k: int) -> None:
    hits = np.arange(40) < k
    found = share_interval(hits, one_each(40), 0.99)
    exact = stats.binomtest(k, 40).proportion_ci(0.99, method="exact")
    # independent templates can still disagree a little more than chance; the interval may widen
    assert found.low <= exact.low + 1e-12
    assert found.high >= exact.high - 1e-12
    assert found.high - found.low <= (exact.high - exact.low) * 1.05


def test_a_perfect_share_is_not_certain() -> None:
    found = share_interval(np.ones(128, dtype=bool), one_each(128), 0.99)
    assert found.high == 1.0
    assert found.low == pytest.approx(0.005 ** (1 / 128))


# --- clustering ----------------------------------------------------------------------------------


def test_clustering_widens_the_interval_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(0, 1, 30), 5) + rng.normal(0, 0.1, 150)
    alone = interval(x, np.ones(150), one_each(150), 0.99, 0)
    together = interval(x, np.ones(150), [f"t{i // 5}" for i in range(150)], 0.99, 0)
    assert width(together) > 1.8 * width(alone)


def test_clustering_widens_the_interval_of_a_share() -> None:
    hits = np.repeat(np.arange(20) % 2 == 0, 5)
    alone = share_interval(hits, one_each(100), 0.99)
    together = share_interval(hits, [f"t{i // 5}" for i in range(100)], 0.99)
    assert width(together) > 1.8 * width(alone)


def test_clusters_that_balance_each_other_do_not_narrow_a_share() -> None:
    """Every template has exactly one hit in two: less spread than chance, and no reward for it."""
    hits = np.arange(100) % 2 == 0
    balanced = share_interval(hits, [f"t{i // 2}" for i in range(100)], 0.99)
    exact = stats.binomtest(50, 100).proportion_ci(0.99, method="exact")
    assert balanced.low == pytest.approx(exact.low)
    assert balanced.high == pytest.approx(exact.high)


def test_copying_every_prompt_adds_no_certainty() -> None:
    rng = np.random.default_rng(1)
    x, templates = rng.normal(0, 1, 24), one_each(24)
    once = interval(x, np.ones(24), templates, 0.99, 0)
    often = interval(np.tile(x, 10), np.ones(240), templates * 10, 0.99, 0)
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high))


def test_the_method_follows_the_number_of_clusters() -> None:
    rng = np.random.default_rng(2)
    few, many = FEW_CLUSTERS - 1, FEW_CLUSTERS
    assert interval(rng.normal(size=few), np.ones(few), one_each(few), 0.9, 0).method == (
        f"t over {few} templates"
    )
    assert interval(rng.normal(size=many), np.ones(many), one_each(many), 0.9, 0).method == (
        f"BCa over {many} clusters"
    )


# --- what has no interval ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [4, 40])
def test_data_without_spread_have_no_interval(n: int) -> None:
    with pytest.raises(ValueError, match="without spread"):
        interval(np.full(n, 0.7), np.ones(n), one_each(n), 0.99, 0)


def test_a_constant_ratio_is_without_spread_though_its_parts_vary() -> None:
    y = np.random.default_rng(3).uniform(1, 2, 30)
    assert constant(0.25 * y, y)
    assert not constant(0.25 * y, np.ones(30))


def test_one_template_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least two"):
        interval(np.arange(9.0), np.ones(9), ["t"] * 9, 0.99, 0)


# --- properties ----------------------------------------------------------------------------------

VALUES = st.lists(st.floats(-100, 100), min_size=4, max_size=15)


@given(VALUES, st.floats(0.5, 0.98))
@settings(max_examples=60, deadline=None)
def test_a_higher_level_gives_a_wider_interval_around_the_same_value(
    values: list[float], level: float
) -> None:
    x = np.array(values)
    if constant(x, np.ones(len(x))):
        return
    narrow = interval(x, np.ones(len(x)), one_each(len(x)), level, 0)
    wide = interval(x, np.ones(len(x)), one_each(len(x)), level + 0.01, 0)
    assert wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high


@given(VALUES, st.floats(-10, 10), st.floats(0.01, 10))
@settings(max_examples=60, deadline=None)
def test_intervals_move_and_stretch_with_the_data(
    values: list[float], shift: float, scale: float
) -> None:
    x = np.array(values)
    ones, templates = np.ones(len(x)), one_each(len(x))
    if constant(x, ones) or constant(scale * x + shift, ones):
        return
    plain = interval(x, ones, templates, 0.99, 0)
    mapped = interval(scale * x + shift, ones, templates, 0.99, 0)
    ends = (scale * plain.low + shift, scale * plain.high + shift)
    assert (mapped.low, mapped.high) == pytest.approx(ends, rel=1e-6, abs=1e-6)


def test_the_same_seed_gives_the_same_interval_and_prompt_order_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    x, templates = rng.normal(size=60), [f"t{i % 25}" for i in range(60)]
    order = rng.permutation(60)
    first = interval(x, np.ones(60), templates, 0.99, 7)
    again = interval(x, np.ones(60), templates, 0.99, 7)
    mixed = interval(x[order], np.ones(60), shuffled(templates, order), 0.99, 7)
    assert first == again
    assert (mixed.low, mixed.high) == pytest.approx((first.low, first.high), abs=1e-12)


def shuffled(templates: Sequence[str], order: ndarray) -> list[str]:
    return [templates[i] for i in order]


def width(found: Interval) -> float:
    return found.high - found.low
