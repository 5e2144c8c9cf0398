"""Figures as data: what a claim draws, in plain JSON types.

A figure holds numbers and words only; how it looks is decided where it is rendered. Numbers may
be given as lists, arrays or tensors and are kept as tuples of floats. Every figure checks itself:
a number that is not finite or a row of the wrong length raises BadFigure, which a claim reports
as "not measured".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self, get_args

from claimlens.circuits.figure_checks import (
    BadFigure,
    cell,
    filled,
    gapped,
    interval,
    listed,
    matrix,
    number,
    numbers,
    parts,
    places,
    plain,
    read,
    settle,
    shown,
    texts,
    words,
)

__all__ = [
    "BadFigure", "Bar", "Bars", "Figure", "Heatmap", "Histogram", "Line", "LineGrid", "Panel",
    "Point", "Scatter", "Table", "TokenMap",
]  # fmt: skip

Numbers = Sequence[float]
"""Given as a list, an array or a tensor of one dimension; kept as a tuple of floats."""
Cell = str | int | float | None
Layout = Literal["map", "text"]


class Figure:
    """What every figure can do: become JSON, and be read from it again."""

    kinds: ClassVar[dict[str, type[Figure]]] = {}

    def __init_subclass__(cls) -> None:
        Figure.kinds[cls.__name__] = cls

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; the figure's kind is under "kind"."""
        return {"kind": type(self).__name__, **plain(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; `Figure.from_json` reads any kind. Raises BadFigure."""
        if not isinstance(data, Mapping):
            raise BadFigure(f"a figure is read from a mapping; got {shown(data)}")
        kind = Figure.kinds.get(str(data.get("kind")))
        if kind is None or not issubclass(kind, cls):
            wanted = cls.__name__ if cls is not Figure else ", ".join(sorted(Figure.kinds))
            raise BadFigure(f"not a figure: kind {shown(data.get('kind'))}; expected {wanted}")
        return read(kind, kind._opened({k: v for k, v in data.items() if k != "kind"}))

    @classmethod
    def _opened(cls, data: dict[str, Any]) -> dict[str, Any]:
        """The fields, with the objects inside them read from their mappings."""
        return data


@dataclass(frozen=True)
class Line:
    """One line of a panel; `low` and `high` bound a band around it."""

    name: str
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None

    def __post_init__(self) -> None:
        where = f"line {self.name!r}"
        y = numbers(self.y, where)
        settle(self, y=y)
        if self.low is None and self.high is None:
            return
        if self.low is None or self.high is None:
            raise BadFigure(f"{where}: give both low and high, or neither")
        low = numbers(self.low, f"{where}, low", len(y))
        high = numbers(self.high, f"{where}, high", len(y))
        for ends in zip(low, high, strict=True):
            interval(*ends, where)
        settle(self, low=low, high=high)


@dataclass(frozen=True)
class Panel:
    """One small plot of a LineGrid."""

    title: str
    lines: Sequence[Line]

    def __post_init__(self) -> None:
        settle(self, lines=parts(self.lines, Line, f"panel {self.title!r}"))

    @classmethod
    def _opened(cls, data: Any) -> Panel:
        lines = data.get("lines") if isinstance(data, Mapping) else None
        opened = [read(Line, line) for line in listed(lines, "the lines of a panel")]
        return read(cls, {**data, "lines": opened})


@dataclass(frozen=True)
class LineGrid(Figure):
    """Panels in rows and columns over one x axis; the panels of a row share their y scale."""

    title: str
    x_label: str
    y_label: str
    x: Numbers
    rows: Sequence[Sequence[Panel]]

    def __post_init__(self) -> None:
        where = f"LineGrid {self.title!r}"
        x = numbers(self.x, f"{where}, x")
        if len(x) < 2 or any(b <= a for a, b in pairwise(x)):
            raise BadFigure(f"{where}: x needs two or more rising values; got {shown(x)}")
        given = enumerate(listed(self.rows, f"{where}, rows"))
        rows = tuple(parts(row, Panel, f"{where}, row {i}") for i, row in given)
        settle(self, x=x, rows=filled(rows, f"{where}, rows"))
        for line in (line for row in rows for panel in row for line in panel.lines):
            numbers(line.y, f"{where}: line {line.name!r}", len(x))

    @classmethod
    def _opened(cls, data: dict[str, Any]) -> dict[str, Any]:
        rows = [listed(row, "a row of a LineGrid") for row in listed(data.get("rows"), "rows")]
        return {**data, "rows": [[Panel._opened(panel) for panel in row] for row in rows]}


@dataclass(frozen=True)
class Heatmap(Figure):
    """A matrix of numbers: `values[row][column]`, `y` naming the rows and `x` the columns.

    None is a cell without a value; `gap` says what that means. `marked` holds the (row, column) of
    cells to outline, `notes[row][column]` what a cell says besides its value.
    """

    title: str
    x_label: str
    y_label: str
    x: Sequence[str | int | float]
    y: Sequence[str | int | float]
    values: Sequence[Sequence[float | None]]
    marked: Sequence[tuple[int, int]] = ()
    notes: Sequence[Sequence[str]] = ()
    gap: str = "not measured"

    def __post_init__(self) -> None:
        where = f"Heatmap {self.title!r}"
        x, y = words(self.x, f"{where}, x"), words(self.y, f"{where}, y")
        values = gapped(self.values, where, [len(x)] * len(y))
        notes = texts(self.notes, f"{where}, notes", (len(y), len(x)))
        marked = places(self.marked, where, (len(y), len(x)))
        settle(self, x=x, y=y, values=values, marked=marked, notes=notes)


@dataclass(frozen=True)
class TokenMap(Figure):
    """Tokens of prompts in rows, coloured by a value each; one frame per head or component.

    `frames[name][row][position]` is in `unit`; all frames share one colour scale. The layout "map"
    puts positions under one another, "text" lets the tokens run on as text does.
    """

    title: str
    unit: str
    tokens: Sequence[Sequence[str]]
    frames: Mapping[str, Sequence[Numbers]]
    layout: Layout = "map"

    def __post_init__(self) -> None:
        where = f"TokenMap {self.title!r}"
        given = enumerate(listed(self.tokens, f"{where}, tokens"))
        tokens = tuple(words(row, f"{where}, row {i}") for i, row in given)
        lengths = [len(row) for row in filled(tokens, f"{where}, tokens")]
        if not isinstance(self.frames, Mapping) or not self.frames:
            raise BadFigure(f"{where}: frames maps the name of each frame to its rows of values")
        frames = {
            str(name): matrix(rows, f"{where}, frame {str(name)!r}", lengths)
            for name, rows in self.frames.items()
        }
        if self.layout not in get_args(Layout):
            raise BadFigure(f"{where}: layout={self.layout!r}; expected 'map' or 'text'")
        settle(self, tokens=tokens, frames=frames)


@dataclass(frozen=True)
class Point:
    """One point of a scatter; a label is written beside it."""

    x: float
    y: float
    label: str = ""

    def __post_init__(self) -> None:
        where = f"point {self.label!r}"
        settle(self, x=number(self.x, f"{where}, x"), y=number(self.y, f"{where}, y"))


@dataclass(frozen=True)
class Scatter(Figure):
    """Points in a plane; those with a label are named."""

    title: str
    x_label: str
    y_label: str
    points: Sequence[Point]

    def __post_init__(self) -> None:
        settle(self, points=parts(self.points, Point, f"Scatter {self.title!r}"))

    @classmethod
    def _opened(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "points": [read(Point, p) for p in listed(data.get("points"), "points")]}


@dataclass(frozen=True)
class Histogram(Figure):
    """How many of the values lie in each of `bins` equal ranges."""

    title: str
    x_label: str
    values: Numbers
    bins: int = 20

    def __post_init__(self) -> None:
        where = f"Histogram {self.title!r}"
        if isinstance(self.bins, bool) or not isinstance(self.bins, int) or self.bins < 1:
            raise BadFigure(f"{where}: bins={self.bins!r}; expected a whole number from 1")
        settle(self, values=numbers(self.values, where))


@dataclass(frozen=True)
class Bar:
    """One bar; `low` and `high` are the ends of its interval."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        where = f"bar {self.name!r}"
        low, high = interval(self.low, self.high, where)
        settle(self, value=number(self.value, where), low=low, high=high)


@dataclass(frozen=True)
class Bars(Figure):
    """Named values side by side, from zero."""

    title: str
    y_label: str
    bars: Sequence[Bar]

    def __post_init__(self) -> None:
        settle(self, bars=parts(self.bars, Bar, f"Bars {self.title!r}"))

    @classmethod
    def _opened(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "bars": [read(Bar, bar) for bar in listed(data.get("bars"), "bars")]}


@dataclass(frozen=True)
class Table(Figure):
    """Rows of words and numbers under named columns; None is an empty cell."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def __post_init__(self) -> None:
        where = f"Table {self.title!r}"
        columns = words(self.columns, f"{where}, columns")
        given = [listed(row, f"{where}, row") for row in listed(self.rows, f"{where}, rows")]
        for i, row in enumerate(given):
            if len(row) != len(columns):
                raise BadFigure(f"{where}: row {i} has {len(row)} cells for {len(columns)} columns")
        rows = tuple(
            tuple(cell(value, f"{where}, row {i}") for value in row) for i, row in enumerate(given)
        )
        settle(self, columns=columns, rows=filled(rows, f"{where}, rows"))
