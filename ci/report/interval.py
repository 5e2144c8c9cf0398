"""A value, its interval and its threshold on one line, as inline SVG."""

from __future__ import annotations

from dataclasses import dataclass

from claimlens.circuits.record import ComparisonRecord

WIDTH, LEFT, RIGHT = 420.0, 12.0, 408.0


@dataclass(frozen=True)
class IntervalPicture:
    """Where everything stands [px]; `side` is the part of the line where the claim holds."""

    value: float
    low: float
    high: float
    threshold: float
    side: tuple[float, float]
    ends: tuple[str, str]

    @classmethod
    def of(cls, comparison: ComparisonRecord) -> IntervalPicture:
        """On a scale that holds the interval and the threshold, with some room."""
        c = comparison
        least, most = min(c.low, c.value, c.threshold), max(c.high, c.value, c.threshold)
        room = (most - least) * 0.1 or abs(most) * 0.1 or 1.0
        least, most = least - room, most + room

        def place(x: float) -> float:
            return round(LEFT + (x - least) / (most - least) * (RIGHT - LEFT), 2)

        threshold = place(c.threshold)
        right = c.relation in (">=", ">")
        side = (threshold, RIGHT - threshold) if right else (LEFT, threshold - LEFT)
        ends = (f"{least:.3g}", f"{most:.3g}")
        return cls(place(c.value), place(c.low), place(c.high), threshold, side, ends)
