"""Large heatmaps: a small file, in which every cell keeps its place, its colour and its value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from claimlens.ci.figures import words
from claimlens.ci.figures.draw import draw
from claimlens.ci.figures.heatmap import MOST_HINTS, MOST_NUMBERS
from claimlens.ci.figures.patches import FAINTEST
from claimlens.ci.report.names import page_of
from claimlens.ci.selftests.heatmap_cells import cells_of
from claimlens.ci.selftests.report_samples import finding, run, written
from claimlens.circuits.figures import Heatmap

LARGEST_PAGE = 300_000


def waves(rows: int, columns: int, least: float = 0.0) -> Heatmap:
    """Values of both signs; those nearer to 0 than `least` are 0."""
    values = [[math.sin(i * 0.7 + j * 1.3) * (1 + i) for j in range(columns)] for i in range(rows)]
    kept = [[v if abs(v) >= least else 0.0 for v in row] for row in values]
    return Heatmap("Waves", "key", "query", range(columns), range(rows), kept)


def stripe(size: int) -> Heatmap:
    """Attention of an induction head: nothing above the diagonal, next to nothing elsewhere."""

    def at(i: int, j: int) -> float:
        return 0.0 if j > i else 0.9 if i - j == size // 2 else 1e-4 / (1 + j)

    values = [[at(i, j) for j in range(size)] for i in range(size)]
    return Heatmap("Stripe", "source", "destination", range(size), range(size), values)


def holed(rows: int, columns: int) -> Heatmap:
    """Waves in which every third cell has no value, and some rows have none at all."""
    given = waves(rows, columns, 9.0)
    values = [
        [None if (i + j) % 3 == 0 or i % 5 == 4 else v for j, v in enumerate(row)]
        for i, row in enumerate(given.values)
    ]
    return Heatmap("Holed", "key", "query", given.x, given.y, values)


LARGE = {
    "few cells": waves(12, 12),
    "few cells, some without a value": holed(12, 12),
    "many, some without a value": holed(30, 40),
    "many": waves(30, 40),
    "many, some 0": waves(30, 40, 9.0),
    "a stripe": stripe(40),
    "more than say their values": waves(80, 90),
    "a single value": Heatmap("One", "x", "y", range(25), range(25), [[0.0] * 25] * 25),
}


@pytest.mark.parametrize("figure", LARGE.values(), ids=LARGE)
def test_every_cell_is_drawn_once_in_its_place_and_colour(figure: Heatmap) -> None:
    drawn = cells_of(draw(figure))
    assert len(drawn) == len(figure.x) * len(figure.y)
    largest = max(abs(value or 0) for row in figure.values for value in row)
    for (row, column), seen in drawn.items():
        value = figure.values[row][column]
        if value is None:
            assert (seen.sign, seen.strength) == ("gap", 0)
            continue
        wanted = abs(value) / largest if largest else 0
        faint = wanted < FAINTEST
        assert seen.strength == pytest.approx(0 if faint else wanted, abs=0.00051)
        assert not seen.strength or seen.sign == ("plus" if value > 0 else "minus")


def said(hint: str) -> list[float]:
    """The value, or the ends of the range, that a hint says."""
    told = hint.rpartition(": ")[2].replace(words.MINUS, "-")
    return [float(end) for end in told.split(" to ")]


@pytest.mark.parametrize("name", [name for name in LARGE if name != "more than say their values"])
def test_every_cell_says_its_value(name: str) -> None:
    figure = LARGE[name]
    few = len(figure.x) * len(figure.y) <= MOST_NUMBERS
    for (row, column), seen in cells_of(draw(figure)).items():
        value = figure.values[row][column]
        if value is None:
            assert seen.hint.endswith(f": {figure.gap}")
            continue
        ends = said(seen.hint)
        room = abs(value) * (0.0006 if few else 0.006)
        assert min(ends) - room <= value <= max(ends) + room
        assert len(ends) == 1 or seen.strength == 0, "only what cannot be seen gives a range"
    if few:
        assert seen.hint.startswith(f"{figure.y_label} {figure.y[row]}, {figure.x_label} ")


def test_a_hint_that_is_wrong_would_be_noticed() -> None:
    assert said("3, 4: −0.12") == [-0.12]  # noqa: RUF001  (a true minus sign)
    assert said("3, 4 to 9: 0 to 0.0001") == [0, 0.0001]


def test_a_cell_drawn_twice_and_a_path_that_is_none_are_noticed() -> None:
    drawing = draw(waves(2, 2))
    twice = drawing.body.replace("M0 0h1", "M1 0h1", 1)
    with pytest.raises(ValueError, match="drawn twice"):
        cells_of(type(drawing)("t", "svg", twice))
    with pytest.raises(ValueError, match="not a path of cells"):
        cells_of(type(drawing)("t", "svg", drawing.body.replace("h1v1", "l1v1", 1)))
    with pytest.raises(ValueError, match="does not close"):
        cells_of(type(drawing)("t", "svg", drawing.body.replace("v1h-1", "v1h-2", 1)))


def page_size(folder: Path, *figures: Sequence[Heatmap]) -> int:
    """Bytes of a claim's page; each group of figures is those of one head."""
    found = [
        finding(head=f"L1H{n}", figures=[figure.to_json() for figure in group])
        for n, group in enumerate(figures)
    ]
    return (written(folder, run(*found)) / page_of("ioi/x")).stat().st_size


SUITE = {
    "as large as says its values": [[waves(50, MOST_HINTS // 50)]],
    "128 layers of 128 heads": [[waves(128, 128)]],
    "four heads, a stripe each": [[stripe(40)]] * 4,
    "two heads, a map of names and four small ones each": [[waves(30, 30), *[waves(5, 6)] * 4]] * 2,
}


@pytest.mark.parametrize("figures", SUITE.values(), ids=SUITE)
def test_a_page_with_large_figures_stays_small(
    figures: Sequence[Sequence[Heatmap]], tmp_path: Path
) -> None:
    size = page_size(tmp_path, *figures)
    assert size < LARGEST_PAGE, f"{size / 1000:.0f} kB"


def test_a_page_that_is_too_large_would_be_noticed(tmp_path: Path) -> None:
    assert page_size(tmp_path, *[[waves(50, 50)]] * 2) > LARGEST_PAGE
