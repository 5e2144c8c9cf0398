"""Paired changes: against scipy where it has the same, and by simulation where it has not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from claimlens.ci.comparing import Change, Side, Unpaired, change_of, holm
from claimlens.ci.selftests.records import comparison
from claimlens.circuits.record import PromptsRecord, packed

N = 40


def prompts(n: int = N, templates: int = N, first: int = 0, text: str = "") -> PromptsRecord:
    ids = [f"ioi-{i}" for i in range(first, first + n)]
    named = [f"t{i % templates}" for i in range(n)]
    return PromptsRecord(f"{n}-{first}", ids, named, [f"{text}{id}" for id in ids])


def side(values: Any, of: PromptsRecord | None = None, weights: Any = None, **more: Any) -> Side:
    record = replace(comparison(), values=packed(np.asarray(values, dtype=float)), **more)
    if weights is not None:
        record.denominators = packed(np.asarray(weights, dtype=float))
    return Side(record, of or prompts(len(values)))


def drawn(seed: int, n: int = N, shift: float = 0.0) -> tuple[Any, Any]:
    """Values on the old model, and on a new one that differs by noise and a shift."""
    generator = np.random.default_rng(seed)
    old = generator.normal(1.0, 1.0, n)
    return old, old + shift + generator.normal(0.0, 0.3, n)


@pytest.mark.parametrize("seed", range(5))
def test_a_mean_over_templates_of_one_prompt_is_a_paired_t_test(seed: int) -> None:
    old, new = drawn(seed, shift=0.2)
    found = change_of(side(old), side(new), "float32")
    wanted = stats.ttest_rel(new, old)
    low, high = wanted.confidence_interval(0.99)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert (found.old, found.new) == pytest.approx((old.mean(), new.mean()))
    assert not found.worse
    assert found.n == N


def test_prompts_of_a_template_count_as_one() -> None:
    old, new = drawn(0, shift=0.2)
    few = prompts(templates=8)
    found = change_of(side(old, few), side(new, few), "float32")
    means = (new - old).reshape(-1, 8).mean(0)
    wanted = stats.ttest_1samp(means, 0.0)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-9)


def test_chance_alone_is_as_rare_as_it_should_be() -> None:
    """Of 2,000 pairs without a change, 1% are below .01, for a mean and for a ratio."""
    below = np.zeros(2)
    for seed in range(2000):
        generator = np.random.default_rng(seed)
        old, new = (generator.normal(1.0, 1.0, N) for _ in range(2))
        y0, y1 = (generator.uniform(1.0, 3.0, N) for _ in range(2))
        pairs = [
            (side(old), side(new)),
            (side(2 * y0 + old, weights=y0), side(2 * y1 + new, weights=y1)),
        ]
        below += [change_of(a, b, "float32").p < 0.01 for a, b in pairs]
    low, high = (stats.binom.ppf(tail, 2000, 0.01) for tail in (1e-4, 1 - 1e-4))
    assert ((low <= below) & (below <= high)).all(), below


def test_a_ratio_is_that_of_the_sums() -> None:
    x, y = np.arange(1.0, N + 1), np.linspace(2.0, 3.0, N)
    noise = np.random.default_rng(0).normal(0, 0.1, N)
    found = change_of(side(x, weights=y), side(x + noise, weights=2 * y), "float32")
    assert found.old == pytest.approx(x.sum() / y.sum())
    assert found.new == pytest.approx((x + noise).sum() / (2 * y).sum())
    assert found.low < found.difference < found.high < 0


@pytest.mark.parametrize(("dtype", "p"), [("float32", 1.0), ("float64", 0.0)])
def test_differences_by_rounding_are_no_change(dtype: str, p: float) -> None:
    old, _ = drawn(0)
    found = change_of(side(old), side(old + 2e-5), dtype)
    assert found.p == pytest.approx(p, abs=1e-9)


def test_prompts_that_change_and_cancel_are_no_rounding() -> None:
    old = np.ones(N)
    moves = np.tile([0.5, -0.5], N // 2)
    found = change_of(side(old), side(old + moves), "float32")
    assert found.difference == pytest.approx(0)
    assert found.low < -0.1 < 0.1 < found.high


def test_a_change_of_every_prompt_by_the_same_is_a_change() -> None:
    old = np.full(N, 0.5)
    found = change_of(side(old), side(old - 0.25), "float32")
    assert (found.low, found.high, found.p) == (-0.25, -0.25, 0.0)
    assert found.worse


@pytest.mark.parametrize(("new", "p"), [(1.0, 1.0), (1.0 + 1e-6, 1.0), (0.9, 0.0)])
def test_what_is_exact_changes_or_does_not(new: float, p: float) -> None:
    one = PromptsRecord("m", ["model"], ["model"], [""])
    found = change_of(side([1.0], one, method="exact"), side([new], one, method="exact"), "float32")
    assert found.p == p


def test_one_template_says_nothing() -> None:
    old, new = drawn(0, shift=5.0)
    alone = prompts(templates=1)
    found = change_of(side(old, alone), side(new, alone), "float32")
    assert (found.low, found.high, found.p) == (-math.inf, math.inf, 1.0)


def test_more_prompts_on_one_side_are_left_out() -> None:
    old, new = drawn(0, 2 * N)
    more = prompts(2 * N, templates=2 * N)
    fewer = prompts(N, templates=N)
    found = change_of(side(old, more), side(new[:N], fewer), "float32")
    same = change_of(side(old[:N], fewer), side(new[:N], fewer), "float32")
    assert (found.p, found.n, found.old) == (same.p, N, same.old)


def test_prompts_in_another_order_are_paired_by_name() -> None:
    old, new = drawn(0)
    given, order = prompts(), np.random.default_rng(1).permutation(N)
    turned = PromptsRecord(
        "t", *([each[i] for i in order] for each in (given.ids, given.templates, given.texts))
    )
    found = change_of(side(old, given), side(new[order], turned), "float32")
    assert found.p == pytest.approx(change_of(side(old), side(new), "float32").p, rel=1e-9)


@pytest.mark.parametrize(
    ("there", "values", "told"),
    [
        (prompts(first=N), N, "no prompt in common"),
        (prompts(text="Now "), N, "read otherwise in the two runs"),
        (prompts(), N - 1, "another number of values than of prompts"),
    ],
)
def test_what_cannot_be_paired_is_refused(there: PromptsRecord, values: int, told: str) -> None:
    with pytest.raises(Unpaired, match=told):
        change_of(side(np.ones(N)), side(np.ones(values), there), "float32")


@pytest.mark.parametrize(
    ("relation", "new", "worse", "share"),
    [
        (">=", 0.9, True, 0.1),
        (">=", 1.1, False, -0.1),
        ("<=", -0.9, True, 0.1),
        ("<", -2, False, -1),
    ],
)
def test_worse_is_toward_the_threshold(
    relation: str, new: float, worse: bool, share: float
) -> None:
    """From a distance of 1: `share` of it is gone."""
    old = 1.0 if relation == ">=" else -1.0
    given: dict[str, Any] = {"relation": relation, "threshold": 0.0}
    found: Change = change_of(
        side(np.full(N, old), **given), side(np.full(N, new), **given), "float32"
    )
    assert found.worse is worse
    assert found.share == pytest.approx(share)


def test_holm() -> None:
    """Each p times the number of those that are not smaller, in order, never falling."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_dtype_that_is_none_is_said() -> None:
    old, new = drawn(0)
    with pytest.raises(Unpaired, match="dtype 'int7'; known are float64"):
        change_of(side(old), side(new), "int7")
