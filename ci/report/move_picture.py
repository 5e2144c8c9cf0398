"""Roles that moved, on the grid of a model's heads, as inline SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from claimlens.ci.figures.head_map import head_of
from claimlens.circuits.figures import BadFigure
from claimlens.circuits.parts import Head

CELL, LEFT, TOP, RIGHT = 26.0, 56.0, 8.0, 8.0
NEAR = 9.0
"""How far from the middle of a head's cell an arrow ends [px]."""


@dataclass(frozen=True)
class Arrow:
    """From the head that a role left to the one that plays it now."""

    start: tuple[float, float]
    end: tuple[float, float]
    told: str


@dataclass(frozen=True)
class MovePicture:
    """Layers as rows, from the first at the top; heads as columns."""

    width: float
    height: float
    rows: Sequence[tuple[float, str]]
    columns: Sequence[tuple[float, str]]
    arrows: Sequence[Arrow]

    @classmethod
    def of(cls, moves: Sequence[tuple[str, str, str]], heads: Iterable[str]) -> MovePicture | None:
        """`moves` are role, old head, new head; the grid holds `heads` as well.

        None where there is nothing to draw: no moves, or names that are no heads of a model.
        """
        drawn = [move for move in moves if all(map(_head, move[1:]))]
        if not drawn:
            return None
        named = (*heads, *(head for move in drawn for head in move[1:]))
        known = [head for name in named if (head := _head(name))]
        rows = 1 + max(head.layer for head in known)
        columns = 1 + max(head.index for head in known)
        return cls(
            LEFT + columns * CELL + RIGHT,
            TOP + rows * CELL + 34,
            [(TOP + (n + 0.5) * CELL, f"layer {n}") for n in range(rows)],
            [(LEFT + (n + 0.5) * CELL, str(n)) for n in range(columns)],
            [_arrow(*move) for move in drawn],
        )


def _head(name: str) -> Head | None:
    try:
        return head_of(name)
    except BadFigure:
        return None


def _arrow(role: str, old: str, new: str) -> Arrow:
    """Ends short of the middle of the new head's cell, so that its dot is seen."""
    (x0, y0), (x1, y1) = (place(Head.parse(head)) for head in (old, new))
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1.0
    reach = max(0.0, 1 - NEAR / length)
    end = (round(x0 + (x1 - x0) * reach, 2), round(y0 + (y1 - y0) * reach, 2))
    return Arrow((x0, y0), end, f"{role}: {old} to {new}")


def place(head: Head) -> tuple[float, float]:
    """The middle of a head's cell [px]."""
    return LEFT + (head.index + 0.5) * CELL, TOP + (head.layer + 0.5) * CELL
