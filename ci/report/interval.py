"""A value, its interval and its threshold on one line, as inline SVG."""

from __future__ import annotations

from dataclasses import dataclass

from claimlens.ci.report.line_scale import LineScale
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
        scale = LineScale.over((c.low, c.value, c.high, c.threshold), LEFT, RIGHT)
        return cls(
            scale(c.value),
            scale(c.low),
            scale(c.high),
            scale(c.threshold),
            scale.side(c.threshold, c.relation),
            (f"{scale.least:.3g}", f"{scale.most:.3g}"),
        )
