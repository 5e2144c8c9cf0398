"""A line from left to right that holds some values, one of them a threshold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class LineScale:
    """A linear map from [least, most] to the pixels from `left` to `right`."""

    least: float
    most: float
    left: float
    right: float

    @classmethod
    def over(cls, values: Iterable[float], left: float, right: float) -> LineScale:
        """One that holds all values, with some room at either end."""
        given = list(values)
        least, most = min(given), max(given)
        room = (most - least) * 0.1 or abs(most) * 0.1 or 1.0
        return cls(least - room, most + room, left, right)

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        share = (value - self.least) / (self.most - self.least)
        return round(self.left + share * (self.right - self.left), 2)

    def side(self, threshold: float, relation: str) -> tuple[float, float]:
        """Start and width of the part of the line where a claim holds."""
        at = self(threshold)
        found = (at, self.right - at) if relation in (">=", ">") else (self.left, at - self.left)
        return found[0], round(found[1], 2)
