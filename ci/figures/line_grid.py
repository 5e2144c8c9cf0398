"""Panels of lines, in rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from claimlens.ci.figures import theme, words
from claimlens.ci.figures.drawing import Drawing, Sheet, svg
from claimlens.ci.figures.placing import apart
from claimlens.ci.figures.scale import Axis
from claimlens.circuits.figures import Line, LineGrid, Panel

MOST_DIRECT = 8
"""Lines of a panel that are named at their ends; where one has more, a legend names all."""
NAME_LENGTH, LABEL_GAP, LABEL_SIZE = 24, 13.0, 11.0
BELOW_PLOT, ABOVE_PLOT, BETWEEN, LEGEND_ROW = 22.0, 22.0, 22.0, 18.0


@dataclass(frozen=True)
class Trace:
    """One drawn line: its points, its band, and the place of its name."""

    name: str
    label: str
    color: str
    dash: str
    points: str
    band: str
    end: tuple[float, float]
    label_y: float


@dataclass(frozen=True)
class Plot:
    """One drawn panel."""

    title: str
    full_title: str
    x: Axis
    y: Axis
    traces: Sequence[Trace]
    first: bool
    last: bool


@dataclass(frozen=True)
class Entry:
    """One line of the legend."""

    at: tuple[float, float]
    color: str
    dash: str
    name: str


@dataclass(frozen=True)
class Layout:
    """Where the panels of a grid lie."""

    columns: int
    rows: int
    left: float
    names: float
    legend: float

    @property
    def plot(self) -> tuple[float, float]:
        """Width and height of one panel's plot."""
        if self.columns == self.rows == 1:
            return 480.0, 280.0
        return max(150.0, min(240.0, 960.0 / self.columns - self.names)), 140.0

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """The plot's top left corner."""
        width, height = self.plot
        down = self.legend + ABOVE_PLOT + row * (height + ABOVE_PLOT + BELOW_PLOT)
        return self.left + column * (width + self.names + BETWEEN), down

    @property
    def width(self) -> float:
        """Width of the whole sheet."""
        return self.corner(0, self.columns)[0]

    @property
    def height(self) -> float:
        """Height of the panels, without the axis label below them."""
        return self.corner(self.rows, 0)[1] - ABOVE_PLOT


def draw(figure: LineGrid, id: str) -> Drawing:
    """Lines named at their ends, bands around them; each row of panels has one y scale."""
    names = _names(figure)
    direct = all(len(panel.lines) <= MOST_DIRECT for row in figure.rows for panel in row)
    scales = [Axis.over(_values(row), 1, 0) for row in figure.rows]
    marks = Axis.within(figure.x, 1, 0).label_width
    widest = max(words.width(_short(name), LABEL_SIZE) for name in names)
    layout = Layout(
        columns=max(map(len, figure.rows)),
        rows=len(figure.rows),
        left=40.0 + max(scale.label_width for scale in scales),
        names=max(widest + 14 if direct else 0.0, marks + 8 - BETWEEN),
        legend=0.0,
    )
    legend = [] if direct else _legend(names, layout.width)
    if legend:
        layout = replace(layout, legend=legend[-1].at[1] + LEGEND_ROW)
    plots = [
        _plot(figure, layout, (i, j), panel, names)
        for i, row in enumerate(figure.rows)
        for j, panel in enumerate(row)
    ]
    sheet = Sheet(id, figure.title, _description(figure), layout.width, layout.height + 24)
    given = {"plots": plots, "layout": layout, "legend": legend, "direct": direct}
    return svg("line_grid.svg.jinja", sheet, figure=figure, **given)


def _plot(
    figure: LineGrid, layout: Layout, at: tuple[int, int], panel: Panel, names: Sequence[str]
) -> Plot:
    (left, top), (width, height) = layout.corner(*at), layout.plot
    x = Axis.within(figure.x, left, left + width, about=max(2, int(width / 50)))
    y = Axis.over(_values(figure.rows[at[0]]), top + height, top)
    ends = [y(list(line.y)[-1]) for line in panel.lines]
    labels = apart(ends, LABEL_GAP, top + 4, top + height - 2)
    traces = [
        _trace(line, list(figure.x), x, y, names.index(line.name), place)
        for line, place in zip(panel.lines, labels, strict=True)
    ]
    title = words.fitted(words.visible(panel.title, 200), width + layout.names, 12)
    below = figure.rows[at[0] + 1] if at[0] + 1 < len(figure.rows) else ()
    last = len(below) <= at[1]
    return Plot(title, panel.title, x, y, traces, first=at[1] == 0, last=last)


def _trace(line: Line, xs: Sequence[float], x: Axis, y: Axis, index: int, label_y: float) -> Trace:
    color, dash = theme.series(index)
    points = list(zip(map(x, xs), map(y, line.y), strict=True))
    band = ""
    if line.low is not None and line.high is not None:
        upper = list(zip(map(x, xs), map(y, line.high), strict=True))
        lower = list(zip(map(x, xs), map(y, line.low), strict=True))
        band = _path(upper + lower[::-1])
    label = _short(line.name)
    return Trace(line.name, label, color, dash, _path(points), band, points[-1], label_y)


def _legend(names: Sequence[str], room: float) -> list[Entry]:
    """Entries in columns, as many as the sheet holds."""
    wide = max(words.width(_short(name), LABEL_SIZE) for name in names) + 44
    across = max(1, int((room - 24) / wide))
    return [
        Entry(
            (12.0 + (i % across) * wide, 8.0 + (i // across) * LEGEND_ROW),
            *theme.series(i),
            _short(name),
        )
        for i, name in enumerate(names)
    ]


def _names(figure: LineGrid) -> list[str]:
    """The lines' names, each once: a name has one colour in all panels."""
    lines = (line for row in figure.rows for panel in row for line in panel.lines)
    return list(dict.fromkeys(line.name for line in lines))


def _values(row: Sequence[Panel]) -> list[float]:
    lines = [line for panel in row for line in panel.lines]
    return [v for line in lines for part in (line.y, line.low or (), line.high or ()) for v in part]


def _short(name: str) -> str:
    return words.visible(name, NAME_LENGTH)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)


def _description(figure: LineGrid) -> str:
    panels = sum(map(len, figure.rows))
    names = ", ".join(words.visible(name, 60) for name in _names(figure)[:20])
    xs = list(figure.x)
    return (
        f"{panels} panel{'s' if panels > 1 else ''} of {figure.y_label} against {figure.x_label} "
        f"from {words.number(xs[0])} to {words.number(xs[-1])}; lines: {names}"
    )
