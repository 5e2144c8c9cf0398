"""Measurement, Threshold, Verdict: what an assertion in a claim compares, and what it means.

A comparison gives a Verdict that is true when it holds and raises otherwise, so that no `not`,
`or` or forgotten `assert` turns a failure green. Nothing here needs torch.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from claimlens.circuits import statistics
from claimlens.circuits.record import Word as Word
from claimlens.circuits.statistics import Interval

Relation = Literal[">=", ">", "<=", "<"]

NOISE_FLOOR = {"float64": 1e-9, "float32": 5e-5, "float16": 5e-2, "bfloat16": 5e-2}
"""Differences smaller than this are rounding, by dtype (measured on logits)."""
_HOLDS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


class Unmet(AssertionError):
    """A comparison that does not hold; carries its verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.sentence())
        self.verdict = verdict


class Refuted(Unmet):
    """The whole interval is on the other side of the threshold."""


class Undecided(Unmet):
    """The threshold lies inside the interval, or within the noise floor of the value."""


class NotMeasured(Exception):
    """No number came of it: the reason is the message. Blocks the gate."""


class Misuse(NotMeasured, TypeError):
    """A measurement used as what it is not: as a number, as a truth value, in an equality."""


class NotApplicable(Exception):
    """The model lacks what the claim speaks of: the reason is the message."""


@dataclass(frozen=True)
class Threshold:
    """A relation and a number: `>= 0.3`."""

    relation: Relation
    value: float

    def decide(self, interval: Interval, floor: float) -> Literal["holds", "refuted", "undecided"]:
        """The verdict on an interval: all of it on one side, or not."""
        if floor and abs(interval.value - self.value) < floor:
            return "undecided"
        met = _HOLDS[self.relation]
        ends = (met(interval.low, self.value), met(interval.high, self.value))
        if all(ends):
            return "holds"
        return "undecided" if any(ends) else "refuted"

    def __str__(self) -> str:
        return f"{self.relation} {self.value:g}"


@dataclass
class Ledger:
    """Every comparison made while a claim ran, and how it must be judged."""

    level: float = 0.99
    floor: float = NOISE_FLOOR["float32"]
    seed: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def word(self) -> Word:
        """The verdict of the whole claim: the worst of its comparisons."""
        words = {verdict.word for verdict in self.verdicts}
        asserted = all(verdict.asserted for verdict in self.verdicts)
        if self.faults or not self.verdicts or not asserted:
            return "not measured"
        order: tuple[Word, ...] = ("refuted", "undecided", "holds")
        return next(word for word in order if word in words)


@dataclass(frozen=True, eq=False)
class Measurement:
    """One finite value per prompt, or per-prompt numerators over denominators.

    `a - b` pairs two measurements of the same prompts; `a / b` is the ratio of their means.
    Comparing gives a Verdict. `exact` says that the quantity is deterministic (a property of
    weights): its interval is the value itself.
    """

    values: Float[ndarray, " prompt"]
    ids: tuple[str, ...]
    templates: tuple[str, ...]
    unit: str
    ledger: Ledger
    share: bool = False
    exact: bool = False
    denominators: Float[ndarray, " prompt"] | None = None

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.ids),):
            raise NotMeasured(
                f"expected one value per prompt, shape ({len(self.ids)},); got {self.values.shape}"
            )
        bad = np.flatnonzero(~np.isfinite(self.values))
        if len(bad):
            raise NotMeasured(
                f"{len(bad)} of {len(self.ids)} values are not finite, first in prompt "
                f"{self.ids[bad[0]]!r}: {self.values[bad[0]]}"
            )

    def __repr__(self) -> str:
        return f"<{self.value:.4g} {self.unit} over {len(self.ids)} prompts>"

    @property
    def value(self) -> float:
        """The estimate: the mean, the share, or the ratio of means."""
        return float(self.values.sum() / self._weights.sum())

    @property
    def influence(self) -> Float[ndarray, " prompt"]:
        """How far each prompt lies from the estimate (for a mean: its own value)."""
        if self.denominators is None:
            return self.values
        return self.values - self.value * self.denominators

    @property
    def _weights(self) -> Float[ndarray, " prompt"]:
        return np.ones(len(self.ids)) if self.denominators is None else self.denominators

    def interval(self) -> Interval:
        """The interval at the ledger's level; see `claimlens.circuits.statistics`."""
        level = self.ledger.level
        if self.exact:
            return Interval(self.value, self.value, self.value, level, "exact")
        if self.share:
            return statistics.share_interval(self.values > 0.5, self.templates, level)
        return statistics.interval(
            self.values, self._weights, self.templates, level, self.ledger.seed
        )

    def __sub__(self, other: Measurement) -> Measurement:
        self._check_paired(other)
        self._check_no_ratio(other)
        return replace(
            self,
            values=self.values - other.values,
            share=False,
            exact=self.exact and other.exact,
        )

    def __truediv__(self, other: Measurement) -> Measurement:
        self._check_paired(other)
        self._check_no_ratio(other)
        gap = abs(other.value)
        if other.exact or statistics.constant(other.values, np.ones(len(other.ids))):
            clear = gap > self.ledger.floor
        else:
            ends = other.interval()
            clear = min(abs(ends.low), abs(ends.high)) > self.ledger.floor and (
                (ends.low > 0) == (ends.high > 0)
            )
        if not clear:
            raise NotMeasured(
                f"the denominator ({other.value:.3g} {other.unit}) is not clearly away from 0, so "
                "the ratio says nothing; report the difference itself"
            )
        return replace(self, denominators=other.values, share=False, unit="fraction", exact=False)

    def _check_paired(self, other: Measurement) -> None:
        if not isinstance(other, Measurement):
            raise Misuse(f"expected another measurement, got {type(other).__name__}")
        if self.ids != other.ids:
            raise NotMeasured(
                f"unpaired measurements: {len(self.ids)} and {len(other.ids)} prompts whose ids "
                "differ; measure both on the same prompt set"
            )
        if self.unit != other.unit:
            raise NotMeasured(f"different units: {self.unit!r} and {other.unit!r}; use one")

    def _check_no_ratio(self, other: Measurement) -> None:
        if self.denominators is not None or other.denominators is not None:
            raise Misuse("a ratio takes no further part in sums; combine its parts, then divide")

    def _compare(self, relation: Relation, other: Measurement | float) -> Verdict:
        if isinstance(other, Measurement):
            return (self - other)._judge(relation, 0.0, _asserting_line())
        if isinstance(other, bool) or not isinstance(other, (int, float)):
            raise Misuse(f"expected a number or a measurement, got {type(other).__name__}")
        if not np.isfinite(other):
            raise NotMeasured(f"the threshold is {other}; expected a finite number")
        return self._judge(relation, float(other), _asserting_line())

    def _judge(self, relation: Relation, threshold: float, line: int) -> Verdict:
        limit = Threshold(relation, threshold)
        floor = 0.0 if self.exact else self.ledger.floor
        if not (self.exact or self.share) and statistics.constant(self.values, self._weights):
            verdict = self._judge_constant(limit, line)
        else:
            try:
                interval = self.interval()
            except ValueError as error:
                raise NotMeasured(f"no interval: {error}") from error
            verdict = Verdict(self, limit, interval, limit.decide(interval, floor), line)
        self.ledger.verdicts.append(verdict)
        return verdict

    def _judge_constant(self, limit: Threshold, line: int) -> Verdict:
        """Data without spread can refute, and can never hold."""
        value = self.value
        point = Interval(value, value, value, self.ledger.level, "constant")
        word = limit.decide(point, self.ledger.floor)
        if word != "holds":
            return Verdict(self, limit, point, word, line)
        raise NotMeasured(
            f"all {len(self.ids)} prompts give exactly {value:g}: without spread there is no "
            "interval. Pass exact=True if the quantity is deterministic (a property of weights)"
        )

    def __ge__(self, other: Measurement | float) -> Verdict:
        return self._compare(">=", other)

    def __gt__(self, other: Measurement | float) -> Verdict:
        return self._compare(">", other)

    def __le__(self, other: Measurement | float) -> Verdict:
        return self._compare("<=", other)

    def __lt__(self, other: Measurement | float) -> Verdict:
        return self._compare("<", other)

    def __eq__(self, other: object) -> bool:
        raise Misuse("measurements are uncertain: compare with >=, >, <= or <, never ==")

    __hash__ = None  # type: ignore[assignment]  # an object without == has no hash

    def __bool__(self) -> bool:
        raise Misuse("a measurement is not true or false: compare it with a threshold")


@dataclass
class Verdict:
    """The outcome of one comparison; true when it holds, raises otherwise."""

    measurement: Measurement
    threshold: Threshold
    interval: Interval
    word: Literal["holds", "refuted", "undecided"]
    line: int
    asserted: bool = False

    def __bool__(self) -> bool:
        self.asserted = True
        if self.word == "refuted":
            raise Refuted(self)
        if self.word == "undecided":
            raise Undecided(self)
        return True

    def __repr__(self) -> str:
        return f"<{self.sentence()}>"

    def worst(self, k: int = 3) -> Sequence[tuple[str, float]]:
        """The `k` prompts that speak most against the claim, with their values."""
        sign = 1 if self.threshold.relation in (">=", ">") else -1
        order = np.argsort(sign * self.measurement.influence, kind="stable")[:k]
        values = self.measurement.influence
        return [(self.measurement.ids[i], float(values[i])) for i in order]

    def sentence(self) -> str:
        """`0.41 [0.32, 0.50] probability, claimed >= 0.3: holds`."""
        i = self.interval
        return (
            f"{i.value:.4g} [{i.low:.4g}, {i.high:.4g}] {self.measurement.unit}, "
            f"claimed {self.threshold}: {self.word}"
        )


def _asserting_line() -> int:
    """The line of the comparison in the claim's own source: two calls up from `_compare`."""
    return sys._getframe(3).f_lineno
