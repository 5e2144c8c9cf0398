"""Every figure shows its data: positions, colours and words are read back and compared."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claimlens.ci.figures import theme, words
from claimlens.ci.figures.draw import draw
from claimlens.ci.figures.drawing import Drawing
from claimlens.ci.figures.histogram import bins
from claimlens.ci.selftests.figure_readers import bars_of, columns_of, lines_of, points_of
from claimlens.ci.selftests.heatmap_cells import cells_of
from claimlens.circuits.figures import (
    Bar,
    Bars,
    Heatmap,
    Histogram,
    Line,
    LineGrid,
    Panel,
    Point,
    Scatter,
    Table,
    TokenMap,
)

VALUE = st.integers(-9999, 9999).map(lambda n: n / 100)
VALUES = st.lists(VALUE, min_size=2, max_size=6)
few = settings(max_examples=15, deadline=None)


def shows_bars(figure: Bars, drawing: Drawing) -> bool:
    scale, found = bars_of(drawing)
    return all(
        abs(value - bar.value) <= scale.half_pixel
        and abs(start) <= scale.half_pixel
        and name == bar.name
        and said == words.number(bar.value, 3)
        for (name, value, start, said), bar in zip(found, figure.bars, strict=True)
    )


def shows_points(figure: Scatter, drawing: Drawing) -> bool:
    x, y, found = points_of(drawing)
    return all(
        abs(a - point.x) <= x.half_pixel and abs(b - point.y) <= y.half_pixel
        for (a, b), point in zip(found, figure.points, strict=True)
    )


def shows_counts(figure: Histogram, drawing: Drawing) -> bool:
    scale, found = columns_of(drawing)
    pairs = zip(found, bins(figure)[0], strict=True)
    return all(abs(height - count) <= scale.half_pixel for height, count in pairs)


def shows_lines(figure: LineGrid, drawing: Drawing) -> bool:
    x, y, found = lines_of(drawing)
    return all(
        abs(a - at) <= x.half_pixel and abs(b - value) <= y.half_pixel
        for line in figure.rows[0][0].lines
        for (a, b), at, value in zip(found[line.name], figure.x, line.y, strict=True)
    )


def shows_cells(figure: Heatmap, drawing: Drawing) -> bool:
    largest = max(abs(v or 0) for row in figure.values for v in row)
    for (i, j), seen in cells_of(drawing).items():
        value = figure.values[i][j] or 0.0
        colour = seen.strength * largest * (1 if seen.sign == "plus" else -1)
        said = seen.hint.rpartition(": ")[2]
        if abs(colour - value) > largest / 1000 or said != words.number(value):
            return False
    return True


def bars(values: list[float]) -> Bars:
    return Bars("t", "y", [Bar(f"b{i}", v) for i, v in enumerate(values)])


def scatter(values: list[float]) -> Scatter:
    return Scatter("t", "x", "y", [Point(v, -i * 1.5) for i, v in enumerate(values)])


def histogram(values: list[float]) -> Histogram:
    return Histogram("t", "x", values, 4)


def lines(values: list[float]) -> LineGrid:
    up = Line("up", values), Line("down", [-v for v in values])
    return LineGrid("t", "x", "y", range(len(values)), [[Panel("p", up)]])


def cells(values: list[float]) -> Heatmap:
    return Heatmap("t", "x", "y", range(len(values)), ["a"], [values])


@few
@given(VALUES)
def test_every_kind_shows_its_data(values: list[float]) -> None:
    assert shows_bars(bars(values), draw(bars(values)))
    assert shows_points(scatter(values), draw(scatter(values)))
    assert shows_counts(histogram(values), draw(histogram(values)))
    assert shows_lines(lines(values), draw(lines(values)))
    assert shows_cells(cells(values), draw(cells(values)))


class Cells(HTMLParser):
    """Class and title of each token or cell of an HTML figure."""

    def __init__(self, drawing: Drawing) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(drawing.body)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("td", "bdi") and "title" in given:
            self.found.append((given.get("class") or "", given["title"] or ""))


def shows_tokens(figure: TokenMap, drawing: Drawing) -> bool:
    wanted = [v for rows in figure.frames.values() for row in rows for v in row]
    largest = max(map(abs, wanted)) or 1.0
    for (style, title), value in zip(Cells(drawing).found, wanted, strict=True):
        steps = int(style[1:]) * (1 if style[0] == "p" else -1) if style else 0
        said = title.rpartition(": ")[2]
        if abs(steps / theme.LEVELS - value / largest) > 0.5 / theme.LEVELS + 1e-9:
            return False
        if said != f"{words.number(value)} u":
            return False
    return True


@few
@given(VALUES, st.sampled_from(["map", "text"]))
def test_tokens_have_the_colours_and_words_of_their_values(
    values: list[float], layout: str
) -> None:
    tokens = [[f"t{i}" for i in range(len(values))]]
    frames = {"a": [values], "b": [values[::-1]]}
    figure = TokenMap("t", "u", tokens, frames, layout=layout)  # type: ignore[arg-type]  # of two
    assert shows_tokens(figure, draw(figure))


@few
@given(VALUES)
def test_a_table_says_its_numbers_whole(values: list[float]) -> None:
    drawn = Cells(draw(Table("t", ["a"], [[v] for v in values])))
    assert [float(title) for _, title in drawn.found] == values


# --- a drawing that shows something else is noticed ----------------------------------------------

GIVEN = [1.0, -2.0, 4.0]


def changed(drawing: Drawing, old: str, new: str, times: int = 1) -> Drawing:
    body, count = re.subn(old, new, drawing.body, count=times)
    assert count
    return replace(drawing, body=body)


def test_figures_of_other_data_are_noticed() -> None:
    swapped = [GIVEN[1], GIVEN[0], GIVEN[2]]
    assert not shows_bars(bars(GIVEN), draw(bars(swapped)))
    assert not shows_points(scatter(GIVEN), draw(scatter(swapped)))
    assert not shows_counts(histogram(GIVEN), draw(histogram([0.0, 0.0, 4.0])))
    assert not shows_lines(lines(GIVEN), draw(lines(swapped)))
    assert not shows_cells(cells(GIVEN), draw(cells(swapped)))


def test_an_axis_that_is_flipped_or_off_by_a_tick_is_noticed() -> None:
    flipped = draw(lines([-v for v in GIVEN]))
    assert not shows_lines(lines(GIVEN), flipped)
    off = changed(draw(bars(GIVEN)), r">4</text>", ">6</text>")
    assert not shows_bars(bars(GIVEN), off)


def test_an_inverted_colour_is_noticed() -> None:
    inverted = changed(draw(cells(GIVEN)), '<g class="plus">', '<g class="minus">')
    assert not shows_cells(cells(GIVEN), inverted)
    figure = TokenMap("t", "u", [["a", "b", "c"]], {"f": [GIVEN]})
    assert shows_tokens(figure, draw(figure))
    wrong = changed(draw(figure), 'class="p20" title', 'class="m20" title')
    assert not shows_tokens(figure, wrong)


def test_a_word_that_is_not_the_value_is_noticed() -> None:
    wrong = changed(draw(cells(GIVEN)), ": 4</title>", ": 5</title>")
    assert not shows_cells(cells(GIVEN), wrong)
    with pytest.raises(AssertionError):
        changed(draw(cells(GIVEN)), "nothing of the kind", "")
