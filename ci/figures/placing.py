"""Labels that do not overlap: along a line, and beside points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_RADII = (8, 16, 28, 44, 64, 90)
"""How far from its point a label may be written, in pixels."""
_DIRECTIONS = ((1, 0), (-1, 0), (0.7, -0.7), (0.7, 0.7), (-0.7, -0.7), (-0.7, 0.7), (0, -1), (0, 1))


@dataclass(frozen=True)
class Box:
    """A rectangle on the sheet."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether the two overlap."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, other: Box) -> bool:
        """Whether the other lies inside."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones, `gap` apart and inside [low, high] if they fit there."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    least = low
    for i in order:
        placed[i] = max(wanted[i], least)
        least = placed[i] + gap
    most = high
    for i in reversed(order):
        placed[i] = min(placed[i], most)
        most = placed[i] - gap
    return placed


def beside(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    bounds: Box,
    *,
    keep_clear: Sequence[tuple[float, float]],
    avoid: Sequence[tuple[float, float]],
) -> list[Box | None]:
    """A box of each size near its point, over no other box and no dot to keep clear.

    The nearest place that covers no dot to avoid, else the nearest that covers some; None where
    there is no place at all.
    """
    taken, avoided = [_around(dot) for dot in keep_clear], [_around(dot) for dot in avoid]
    found: list[Box | None] = []
    for point, size in zip(points, sizes, strict=True):
        places = [_box(point, size, r, d) for r in _RADII for d in _DIRECTIONS]
        free = [b for b in places if bounds.holds(b) and not any(map(b.meets, taken))]
        clear = (b for b in free if not any(map(b.meets, avoided)))
        box = next(clear, free[0] if free else None)
        found.append(box)
        if box is not None:
            taken.append(box)
    return found


def _around(dot: tuple[float, float]) -> Box:
    x, y = dot
    return Box(x - 4, y - 4, x + 4, y + 4)


def _box(
    point: tuple[float, float],
    size: tuple[float, float],
    radius: float,
    direction: tuple[float, float],
) -> Box:
    """A box whose nearest edge or corner lies `radius` from the point in this direction."""
    (width, height), (across, down) = size, direction
    x, y = point[0] + radius * across, point[1] + radius * down
    left = x if across > 0 else x - width if across < 0 else x - width / 2
    top = y if down > 0 else y - height if down < 0 else y - height / 2
    return Box(left, top, left + width, top + height)
