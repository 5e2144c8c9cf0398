"""Figures that cannot be shown."""

from __future__ import annotations

from claimlens.ci.selftests.errors.entry import Entry
from claimlens.circuits.figures import (
    Bar,
    Figure,
    Heatmap,
    Histogram,
    Line,
    LineGrid,
    Panel,
    Scatter,
    Table,
    TokenMap,
)

_PANEL = Panel("a", [Line("l", [1.0, 2.0])])
_NAN = float("nan")


def _heatmap(values: list[list[float]], marked: tuple[tuple[int, int], ...] = ()) -> Figure:
    return Heatmap("effect", "head", "layer", ["0", "1"], ["0"], values, marked)


def _token_map(frames: dict[str, list[list[float]]], layout: str = "map") -> Figure:
    return TokenMap("tokens", "logits", [["a", "b"]], frames, layout)  # type: ignore[arg-type]


ENTRIES = (
    Entry(lambda _: _heatmap([[_NAN, 1.0]])),
    Entry(lambda _: _heatmap([[1e305, 1.0]])),
    Entry(lambda _: _heatmap([[1.0]])),
    Entry(lambda _: _heatmap([[1.0, 2.0], [1.0, 2.0]])),
    Entry(lambda _: _heatmap([[1.0, 2.0]], marked=((3, 0),))),
    Entry(lambda _: Bar("name movers", 1.0, low=0.5)),
    Entry(lambda _: Bar("name movers", 1.0, low=2.0, high=1.0)),
    Entry(lambda _: Line("baseline", [1.0], low=[0.5])),
    Entry(lambda _: Scatter("points", "x", "y", [])),
    Entry(lambda _: LineGrid("curves", "x", "y", [1.0, 1.0], [[_PANEL]])),
    Entry(lambda _: _token_map({})),
    Entry(lambda _: _token_map({"head": [[1.0, 2.0]]}, layout="rows")),
    Entry(lambda _: Histogram("losses", "loss", [1.0], bins=0)),
    Entry(lambda _: Table("heads", ["head", "effect"], [["9.9"]])),
    Entry(lambda _: Figure.from_json({"kind": "Pie"})),
    Entry(lambda _: Figure.from_json(["Heatmap"])),  # type: ignore[arg-type]  # what is refused
)
