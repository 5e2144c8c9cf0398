"""Intervals for a mean, a ratio of means and a share, over prompts that come in clusters.

Every estimate here is sum(x) / sum(y) over prompts: a mean has y = 1, a ratio such as
loss recovered has the per-prompt denominators. Prompts of one template are one cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray
from scipy import stats

FEW_CLUSTERS = 20
"""Below this many clusters a bootstrap over them is too coarse: a t interval is used instead."""
RESAMPLES = 9_999


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval, the level, and the method that gave it."""

    value: float
    low: float
    high: float
    level: float
    method: str


def interval(
    x: Float[ndarray, " prompt"],
    y: Float[ndarray, " prompt"],
    templates: Sequence[str],
    level: float,
    seed: int,
) -> Interval:
    """Interval for sum(x) / sum(y), clustered by template.

    BCa bootstrap over clusters (Efron 1987, through scipy) where there are at least 20 of them,
    else a studentised t interval over clusters with the ratio linearised. Raises ValueError on
    fewer than two clusters, and on data without spread, which has no interval.
    """
    x_sums, y_sums = cluster_sums(x, templates), cluster_sums(y, templates)
    if len(x_sums) < 2:
        raise ValueError("all prompts share one template; an interval needs at least two")
    if constant(x, y):
        raise ValueError("every prompt gives the same value; data without spread has no interval")
    if len(x_sums) < FEW_CLUSTERS:
        return _student(x_sums, y_sums, level)
    return _bca(x_sums, y_sums, level, seed)


def share_interval(
    hits: Bool[ndarray, " prompt"], templates: Sequence[str], level: float
) -> Interval:
    """Clopper-Pearson interval for a share of prompts.

    Where prompts of a template agree more than chance, the number of prompts is lowered by the
    design effect (Korn & Graubard 1998); it is never raised.
    """
    n = len(hits) / _design_effect(hits, templates)
    k = float(hits.mean()) * n
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, k, n - k + 1)) if k > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0
    return Interval(float(hits.mean()), low, high, level, "Clopper-Pearson")


def constant(x: Float[ndarray, " prompt"], y: Float[ndarray, " prompt"]) -> bool:
    """Whether x / sum(y) has no spread beyond rounding: every prompt says the same."""
    residual = x * y.mean() - x.mean() * y
    scale = np.abs(x * y.mean()).max() + np.abs(x.mean() * y).max()
    return bool(np.abs(residual).max() <= 1e-9 * scale)


def cluster_sums(
    values: Float[ndarray, " prompt"], templates: Sequence[str]
) -> Float[ndarray, " cluster"]:
    """The sum of each template's values."""
    names: Shaped[ndarray, " cluster"]
    names, member = np.unique(np.asarray(templates), return_inverse=True)
    return np.bincount(member, weights=values, minlength=len(names))


def _student(
    x: Float[ndarray, " cluster"], y: Float[ndarray, " cluster"], level: float
) -> Interval:
    n, value = len(x), float(x.sum() / y.sum())
    residual = x - value * y
    error = float(np.sqrt(n / (n - 1) * (residual**2).sum()) / abs(y.sum()))
    reach = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    return Interval(value, value - reach, value + reach, level, f"t over {n} templates")


def _bca(
    x: Float[ndarray, " cluster"], y: Float[ndarray, " cluster"], level: float, seed: int
) -> Interval:
    result = stats.bootstrap(
        (x, y),
        lambda x, y, axis: x.sum(axis) / y.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    low, high = (float(end) for end in result.confidence_interval)
    if not np.isfinite([low, high]).all():
        raise ValueError("the BCa interval is not finite; the data are nearly without spread")
    return Interval(float(x.sum() / y.sum()), low, high, level, f"BCa over {len(x)} clusters")


def _design_effect(hits: Bool[ndarray, " prompt"], templates: Sequence[str]) -> float:
    p, n = float(hits.mean()), len(hits)
    if p in (0.0, 1.0):
        return 1.0
    residual = cluster_sums(hits.astype(float) - p, templates)
    clusters = len(residual)
    if clusters < 2:
        return 1.0
    variance = clusters / (clusters - 1) * float((residual**2).sum()) / n**2
    return max(1.0, variance / (p * (1 - p) / n))
