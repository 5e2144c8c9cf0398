"""How a claim's values changed from one model to another, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import isfinite
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import special

from claimlens.circuits.record import ComparisonRecord, PromptsRecord, unpacked
from claimlens.circuits.verdict import NOISE_FLOOR

LEVEL = 0.99
"""Of the interval of a change; 1 - LEVEL is the error that the whole suite may make."""


class Unpaired(ValueError):
    """The two values were not measured on the same prompts; the message says why."""


@dataclass(frozen=True)
class Change:
    """One comparison on both models: its value then and now, on the prompts that both have.

    `low` and `high` are the interval of `new - old`; `p` is the chance of a difference as large
    without a change, `adjusted` the same for the whole suite (Holm). `worse` says which way it
    went, `share` how much of the old distance to the threshold is gone.
    """

    expression: str
    unit: str
    old: float
    new: float
    low: float
    high: float
    p: float
    n: int
    worse: bool
    share: float
    adjusted: float = 1.0

    @property
    def difference(self) -> float:
        """What came on top."""
        return self.new - self.old

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, which have no infinite numbers: what reaches so far has no end."""
        ends = {"low": self.low, "high": self.high}
        known = {name: end if isfinite(end) else None for name, end in ends.items()}
        return {**asdict(self), **known}


@dataclass(frozen=True)
class Side:
    """A comparison with the prompts that its values belong to."""

    record: ComparisonRecord
    prompts: PromptsRecord

    def of(
        self, rows: Int[ndarray, " common"]
    ) -> tuple[Float[ndarray, " common"], Float[ndarray, " common"]]:
        """The values of some prompts, and what they are divided by: ones, but for a ratio."""
        values, given = unpacked(self.record.values), self.record.denominators
        if len(values) != len(self.prompts.ids):
            raise Unpaired("a run file holds another number of values than of prompts")
        return values[rows], unpacked(given)[rows] if given else np.ones(len(rows))


@dataclass(frozen=True, eq=False)
class Pairing:
    """Where the prompts that two runs have in common stand in each, and each one's template."""

    here: Int[ndarray, " common"]
    there: Int[ndarray, " common"]
    template: Int[ndarray, " common"]

    def sums(self, values: Float[ndarray, " common"]) -> Float[ndarray, " cluster"]:
        """The sum of each template's values."""
        return np.bincount(self.template, weights=values)


def change_of(old: Side, new: Side, dtype: str) -> Change:
    """The paired difference of a comparison, clustered by template.

    A t statistic over templates, ratios linearised, as `statistics.interval` has it below 20
    templates. What is exact, and what differs by rounding alone, has no chance in it: p is 0 or 1.
    Raises Unpaired.
    """
    if dtype not in NOISE_FLOOR:
        raise Unpaired(f"the values are of dtype {dtype!r}; known are {', '.join(NOISE_FLOOR)}")
    pairing = pair(old.prompts, new.prompts)
    x0, y0 = old.of(pairing.here)
    x1, y1 = new.of(pairing.there)
    values = (float(x0.sum() / y0.sum()), float(x1.sum() / y1.sum()))
    moved = _influence(x1, y1) - _influence(x0, y0)
    low, high, p = _test(
        values[1] - values[0], moved, pairing, NOISE_FLOOR[dtype], old.record.method
    )
    lost = _lost(old.record, *values)
    margin = abs(values[0] - old.record.threshold)
    return Change(
        expression=old.record.expression,
        unit=old.record.unit,
        old=values[0],
        new=values[1],
        low=low,
        high=high,
        p=p,
        n=len(pairing.here),
        worse=lost > 0,
        share=lost / margin if margin else float(lost > 0),
    )


@lru_cache(maxsize=256)
def pair(old: PromptsRecord, new: PromptsRecord) -> Pairing:
    """The prompts that both have; remembered, since many claims share them. Raises Unpaired."""
    places = {id: i for i, id in enumerate(new.ids)}
    pairs = [(i, places[id]) for i, id in enumerate(old.ids) if id in places]
    if not pairs:
        raise Unpaired("the two runs have no prompt in common")
    if any(old.texts[i] != new.texts[j] for i, j in pairs):
        raise Unpaired("prompts of the same name read otherwise in the two runs")
    here, there = zip(*pairs, strict=True)
    _, template = np.unique([old.templates[i] for i in here], return_inverse=True)
    return Pairing(np.array(here), np.array(there), template)


def _influence(
    x: Float[ndarray, " prompt"], y: Float[ndarray, " prompt"]
) -> Float[ndarray, " prompt"]:
    """How far each prompt moves sum(x) / sum(y) from its value, times the number of prompts."""
    found: Float[ndarray, " prompt"] = (x - x.sum() / y.sum() * y) / y.mean()
    return found


def _test(
    difference: float,
    influence: Float[ndarray, " common"],
    pairing: Pairing,
    floor: float,
    method: str,
) -> tuple[float, float, float]:
    """Interval and p of a paired difference."""
    if abs(difference) < floor and np.abs(influence).max() < floor:
        return difference, difference, 1.0
    if method == "exact":
        return difference, difference, 0.0
    sums = pairing.sums(influence)
    n = len(sums)
    if n < 2:
        return -np.inf, np.inf, 1.0
    error = float(np.sqrt(n / (n - 1) * (sums**2).sum()) / len(influence))
    if error == 0:
        return difference, difference, 0.0
    reach = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    p = 2 * float(special.stdtr(n - 1, -abs(difference) / error))
    return difference - reach, difference + reach, p


def _lost(record: ComparisonRecord, old: float, new: float) -> float:
    """How much nearer to the wrong side of the threshold it came."""
    return old - new if record.relation in (">=", ">") else new - old


def holm(p: Sequence[float]) -> list[float]:
    """Each p adjusted for all of them (Holm 1979): the largest of (m - i) p so far."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    found = np.empty(len(p))
    found[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in found]
