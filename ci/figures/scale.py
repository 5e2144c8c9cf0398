"""Axes: from data to pixels, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from claimlens.ci.figures import words

_TINY = 1e-290
"""Numbers nearer to each other than this are drawn as equal."""


@dataclass(frozen=True)
class Tick:
    """One mark of an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A linear map from [low, high] to the pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[Tick] = ()

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, about: int = 5) -> Axis:
        """An axis that holds all values between its first and its last round tick."""
        low, high = _apart(*_ends(values))
        step = round_step(low, high, about)
        first, last = math.floor(low / step), math.ceil(high / step)
        marks = [i * step for i in range(first, last + 1)]
        return cls(marks[0], marks[-1], start, end)._with(marks, step)

    @classmethod
    def within(cls, values: Iterable[float], start: float, end: float, about: int = 5) -> Axis:
        """An axis from the smallest to the largest value, with the round ticks between them."""
        low, high = _apart(*_ends(values))
        step = round_step(low, high, about)
        inside = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        return cls(low, high, start, end)._with([i * step for i in inside], step)

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def zero(self) -> float | None:
        """Where 0 lies, if the axis holds it."""
        return self(0.0) if self.low <= 0 <= self.high else None

    @property
    def label_width(self) -> float:
        """Pixels that the widest tick label takes."""
        return max((words.width(tick.label, 11) for tick in self.ticks), default=0.0)

    @property
    def overhang(self) -> float:
        """Pixels that a horizontal axis' labels may reach beyond its ends."""
        return self.label_width / 2 + 4

    def _with(self, marks: Sequence[float], step: float) -> Axis:
        """With labels, fewer of them where they would run into each other."""
        labels = [label(mark, step, marks) for mark in marks]
        every = 1
        if self.end > self.start and len(marks) > 1:  # from left to right
            widest = max(words.width(text, 11) for text in labels)
            every = math.ceil((widest + 6) / (self(marks[1]) - self(marks[0])))
        shown = [text if i % every == 0 else "" for i, text in enumerate(labels)]
        ticks = tuple(Tick(self(mark), text) for mark, text in zip(marks, shown, strict=True))
        return Axis(self.low, self.high, self.start, self.end, ticks)


def round_step(low: float, high: float, about: int) -> float:
    """1, 2 or 5 times a power of ten, so that about `about` steps lie between low and high."""
    rough = max((high - low) / about, _TINY)
    power = 10.0 ** math.floor(math.log10(rough))
    return next((n * power for n in (1, 2, 5) if n * power >= rough * 0.999), 10 * power)


def label(value: float, step: float, marks: Sequence[float]) -> str:
    """A tick's number with as many digits as tell it from its neighbours."""
    if abs(value) < step / 2:
        return "0"
    largest = max(abs(mark) for mark in marks)
    place = math.floor(math.log10(step) + 1e-9)
    if step >= 1e-4 and largest < 1e6:
        return f"{value:.{max(0, -place)}f}".replace("-", words.MINUS)
    digits = max(1, min(15, math.floor(math.log10(largest)) - place + 1))
    return words.number(value, digits)


def _ends(values: Iterable[float]) -> tuple[float, float]:
    given = list(values)
    return min(given), max(given)


def _apart(low: float, high: float) -> tuple[float, float]:
    """The ends, moved apart where there is nothing between them."""
    largest = max(abs(low), abs(high))
    if high - low > max(largest * 1e-12, _TINY):
        return low, high
    room = largest * 0.05 if largest > _TINY else 1.0
    return low - room, high + room
