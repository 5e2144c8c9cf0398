"""A matrix of colours, centred at 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from claimlens.ci.figures import theme, words
from claimlens.ci.figures.drawing import Drawing, Sheet, svg
from claimlens.ci.figures.patches import hint, patches
from claimlens.ci.figures.scale import Axis
from claimlens.circuits.figures import Heatmap

LABEL, NAME_LENGTH = 11.0, 24
ROOM_ACROSS, ROOM_DOWN = 720.0, 560.0
SMALLEST, WIDEST, HIGHEST = 7.0, 48.0, 30.0
MOST_NUMBERS, MOST_HINTS = 400, 3000
"""Cells up to which numbers are written in them, and up to which each says its own value."""
BAR_STEPS = 24


@dataclass(frozen=True)
class Written:
    """The number in a cell, and the cell's middle."""

    x: float
    y: float
    number: str


@dataclass(frozen=True)
class Name:
    """One label of a row or a column."""

    at: float
    text: str
    whole: str


@dataclass(frozen=True)
class Step:
    """One rectangle of the colour bar."""

    y: float
    height: float
    sign: str
    strength: float


@dataclass(frozen=True)
class Layout:
    """Sizes of the cells and of what surrounds them."""

    columns: int
    rows: int
    left: float
    below: float
    upright: bool
    bar_labels: float
    gaps: bool = False

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height of a cell."""
        across = min(WIDEST, max(SMALLEST, ROOM_ACROSS / self.columns))
        return across, min(HIGHEST, max(SMALLEST, ROOM_DOWN / self.rows))

    @property
    def right(self) -> float:
        """Right edge of the cells."""
        return self.left + self.columns * self.cell[0]

    @property
    def bottom(self) -> float:
        """Lower edge of the cells."""
        return self.rows * self.cell[1]

    @property
    def bar(self) -> Axis:
        """Where the colour bar runs, from its lower end to its upper one."""
        return Axis(0, 1, max(self.bottom, 80.0), 0)

    @property
    def width(self) -> float:
        """Width of the sheet: cells, colour bar, its ticks."""
        return max(self.right + 50 + self.bar_labels + 12, 260.0)

    @property
    def height(self) -> float:
        """Height down to the label of the columns, and to what empty cells mean."""
        return max(self.bottom + self.below + 26 + 18 * self.gaps, self.bar.start + 10)


def draw(figure: Heatmap, id: str) -> Drawing:
    """Cells of colour with a colour bar; marked cells are outlined."""
    ends = _ends(figure)
    layout = _layout(figure, ends)
    axis = Axis.within(ends, layout.bar.start, layout.bar.end, about=6)
    marks = [(layout.left + j * layout.cell[0], i * layout.cell[1]) for i, j in figure.marked]
    sheet = Sheet(id, figure.title, _description(figure), layout.width, layout.height)
    across, down = layout.cell
    return svg(
        "heatmap.svg.jinja",
        sheet,
        figure=figure,
        layout=layout,
        patches=patches(figure, max(map(abs, ends)), MOST_NUMBERS, MOST_HINTS),
        numbers=_numbers(figure, layout),
        gaps=_gaps(figure, layout),
        marks=marks,
        columns=_names(
            figure.x, layout.left, across, LABEL + 3 if layout.upright else _widest(figure.x) + 8
        ),
        rows=_names(figure.y, 0.0, down, LABEL + 3),
        bar=_bar(axis, ends),
        axis=axis,
    )


def _layout(figure: Heatmap, ends: tuple[float, float]) -> Layout:
    columns, rows = len(figure.x), len(figure.y)
    wide = _widest(figure.x)
    upright = wide + 8 > max(min(WIDEST, ROOM_ACROSS / columns), SMALLEST) and wide > 30
    bar_labels = Axis.within(ends, 1, 0, about=6).label_width
    left = 34.0 + _widest(figure.y)
    below = wide + 8 if upright else 16.0
    gaps = any(value is None for row in figure.values for value in row)
    return Layout(columns, rows, left, below, upright, bar_labels, gaps)


def _numbers(figure: Heatmap, layout: Layout) -> list[Written]:
    """What is written in the cells, where all of it fits."""
    across, down = layout.cell
    shown = [
        ["" if value is None else words.number(value, 2) for value in row] for row in figure.values
    ]
    few = len(figure.x) * len(figure.y) <= MOST_NUMBERS and down >= 16
    if not few or max(words.width(text, 10) for row in shown for text in row) + 4 > across:
        return []
    return [
        Written(layout.left + (j + 0.5) * across, (i + 0.5) * down, text)
        for i, row in enumerate(shown)
        for j, text in enumerate(row)
        if text
    ]


def _gaps(figure: Heatmap, layout: Layout) -> list[tuple[float, float]]:
    """The middles of the cells without a value."""
    across, down = layout.cell
    return [
        (layout.left + (j + 0.5) * across, (i + 0.5) * down)
        for i, row in enumerate(figure.values)
        for j, value in enumerate(row)
        if value is None
    ]


def _names(
    given: Sequence[str | int | float], start: float, size: float, needed: float
) -> list[Name]:
    """Every name, or every second, fifth, tenth …, so that they don't overlap."""
    every = next((n for n in (1, 2, 5, 10, 20, 50, 100) if n * size >= needed), None)
    every = every or math.ceil(needed / size)
    return [
        Name(start + (i + 0.5) * size, words.visible(str(name), NAME_LENGTH), str(name))
        for i, name in enumerate(given)
        if i % every == 0
    ]


def _widest(names: Sequence[str | int | float]) -> float:
    return max(words.width(words.visible(str(name), NAME_LENGTH), LABEL) for name in names)


def _values(figure: Heatmap) -> list[float]:
    return [value for row in figure.values for value in row if value is not None]


def _ends(figure: Heatmap) -> tuple[float, float]:
    """The colour bar's ends: symmetric about 0, without a side that has no value."""
    values = _values(figure)
    largest = max(map(abs, values))
    return (-largest if min(values) < 0 else 0.0), (largest if max(values) > 0 else 0.0)


def _bar(axis: Axis, ends: tuple[float, float]) -> list[Step]:
    largest = max(map(abs, ends))
    if largest == 0:
        return []
    size = (ends[1] - ends[0]) / BAR_STEPS
    found = []
    for i in range(BAR_STEPS):
        low, high = ends[0] + i * size, ends[0] + (i + 1) * size
        middle = (low + high) / 2
        sign = "plus" if middle > 0 else "minus"
        step = Step(axis(high), axis(low) - axis(high), sign, theme.strength(middle, largest))
        found.append(step)
    return found


def _description(figure: Heatmap) -> str:
    values = _values(figure)
    missing = len(figure.x) * len(figure.y) - len(values)
    text = (
        f"{len(figure.y)} rows ({figure.y_label}) by {len(figure.x)} columns ({figure.x_label}), "
        f"values from {words.number(min(values))} to {words.number(max(values))}"
    )
    text += f"; {missing} {figure.gap}" if missing else ""
    marked = "; ".join(hint(figure, row, column) for row, column in figure.marked[:20])
    return f"{text}; outlined: {marked}" if marked else text
