"""A value then and now on one line with its threshold, as inline SVG."""

from __future__ import annotations

from dataclasses import dataclass

from claimlens.ci.report.line_scale import LineScale

WIDTH, LEFT, RIGHT = 220.0, 8.0, 212.0


@dataclass(frozen=True)
class ChangePicture:
    """Where everything stands [px]; `side` is the part of the line where the claim holds."""

    old: float
    new: float
    threshold: float
    side: tuple[float, float]

    @classmethod
    def of(cls, old: float, new: float, threshold: float, relation: str) -> ChangePicture:
        """On a scale that holds all three, with some room."""
        scale = LineScale.over((old, new, threshold), LEFT, RIGHT)
        return cls(scale(old), scale(new), scale(threshold), scale.side(threshold, relation))
