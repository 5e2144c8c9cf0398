"""How the cost of the head sweep grows, one axis at a time, and what it should be by the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from claimlens.ci.benchmarks.result import REFERENCE, Result
from claimlens.ci.benchmarks.rows import Row
from claimlens.ci.benchmarks.subject import Size
from claimlens.ci.figures.draw import draw
from claimlens.circuits.figures import Line, LineGrid, Panel

BASE = Size(batch=10, tokens=15)
D_HEAD = 64
FIRST = 2
"""The first token in which a pair of prompts differs: no row before it can change."""
AXES: Mapping[str, Sequence[int]] = {
    "layers": (6, 12, 24),
    "width": (384, 768, 1024),
    "tokens": (15, 30, 60, 120),
    "batch": (4, 10, 32, 64),
}
LABELS = {"layers": "layers", "width": "d_model", "tokens": "tokens", "batch": "prompts"}


@dataclass(frozen=True)
class Point:
    """The head sweep at one size: times in ms, operations by the plan and as counted."""

    axis: str
    at: int
    ours: float
    reference: float
    law: float
    counted: float

    @classmethod
    def of(cls, axis: str, size: Size, result: Result) -> Point:
        """What was measured at this size."""
        at = getattr(size, axis)
        law, reference = operations(size), result.peer_ms(REFERENCE)
        return cls(axis, at, result.ours_ms, reference, law, result.flops)


def sizes(axis: str) -> list[Size]:
    """The sizes along an axis, all else as in BASE; a head keeps its 64 dimensions."""
    found = [replace(BASE, **{axis: at}) for at in AXES[axis]]
    return [replace(size, heads=size.width // D_HEAD) for size in found]


def row_at(size: Size) -> Row:
    """A row without a figure that it must reach."""
    named = f"{size.layers} layers, d_model {size.width}, {size.prompts}"
    return Row("growth", named, size.batch, size.tokens, must=0, aim=0, sample=1, rounds=3)


def operations(size: Size) -> float:
    """The operations of the plan: every head's change, carried from its layer to the last.

    Of its own layer the MLP, of each later one attention and MLP, at the rows from the first
    changed token on; of the last one its last row alone, whose query looks at the stream itself.
    The intact runs are remembered, and the unembedding of two tokens is left out.
    """
    d, rows = size.width, size.batch * (size.tokens - FIRST)
    mlp, projections, attention = 16 * d * d, 8 * d * d, 4 * size.tokens * d
    whole = rows * (mlp + projections + attention)
    last = size.batch * (mlp + projections + size.heads * attention)
    swept = 0.0
    for layer in range(size.layers - 1):
        swept += size.heads * (rows * mlp + (size.layers - layer - 2) * whole + last)
    return swept + size.heads * size.batch * mlp


def figures(points: Sequence[Point]) -> dict[str, LineGrid]:
    """A plot per axis: ours, and what the plan's operations cost at the base's speed."""
    return {axis: _figure(axis, mine) for axis, mine in complete(points).items()}


def complete(points: Sequence[Point]) -> dict[str, list[Point]]:
    """The points of each axis that was measured to its end."""
    by_axis = {axis: [point for point in points if point.axis == axis] for axis in AXES}
    return {a: mine for a, mine in by_axis.items() if [p.at for p in mine] == list(AXES[a])}


def write_figures(points: Sequence[Point], folder: Path) -> list[Path]:
    """Draw the plots into a folder; the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for axis, figure in figures(points).items():
        drawing = draw(figure, f"growth-{axis}")
        file = folder / f"growth-{axis}.{drawing.suffix}"
        file.write_text(drawing.standalone(), encoding="utf-8")
        files.append(file)
    return files


def markdown(points: Sequence[Point]) -> str:
    """The points as a table: what was measured, what the plan says, and TransformerLens."""
    lines = [
        f"| axis | at | ours, ms | by the plan, ms | {REFERENCE}, ms | ratio | counted / plan |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    for axis, mine in complete(points).items():
        for p, ms in zip(mine, _expected(mine), strict=True):
            shown = f"{p.ours:,.0f} | {ms:,.0f} | {p.reference:,.0f} | {p.reference / p.ours:.3g}"
            lines.append(f"| {LABELS[axis]} | {p.at} | {shown} | {p.counted / p.law:.2f} |")
    return "\n".join(lines)


def to_json(points: Sequence[Point], machine: Mapping[str, str]) -> dict[str, Any]:
    """Plain JSON types."""
    return {"schema": 1, "machine": dict(machine), "points": [vars(point) for point in points]}


def _figure(axis: str, points: Sequence[Point]) -> LineGrid:
    lines = [
        Line("measured", [point.ours / 1000 for point in points]),
        Line("by the plan", [ms / 1000 for ms in _expected(points)]),
    ]
    title = f"Every head at all positions, by {LABELS[axis]}"
    return LineGrid(title, LABELS[axis], "s", [p.at for p in points], [[Panel("", lines)]])


def _expected(points: Sequence[Point]) -> list[float]:
    """The operations of each point in ms, at the speed of the point that has BASE's size."""
    (base,) = (point for point in points if point.at == getattr(BASE, point.axis))
    return [base.ours * point.law / base.law for point in points]
