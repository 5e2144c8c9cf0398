"""Rows of words and numbers."""

from __future__ import annotations

from dataclasses import dataclass

from claimlens.ci.figures import words
from claimlens.ci.figures.drawing import Drawing, html
from claimlens.circuits.figures import Table

LONGEST_CELL, LONGEST_HINT = 120, 2000


@dataclass(frozen=True)
class Cell:
    """One cell: what is shown, the whole of it, and whether it is a number."""

    text: str
    whole: str
    number: bool


def draw(figure: Table, id: str) -> Drawing:
    """An HTML table; numbers are aligned on the right, in four digits."""
    rows = [[_cell(value) for value in row] for row in figure.rows]
    columns = [words.visible(name, LONGEST_CELL) for name in figure.columns]
    numeric = [all(row[i].number or not row[i].text for row in rows) for i in range(len(columns))]
    headings = list(zip(columns, numeric, strict=True))
    return html("table.html.jinja", id, figure.title, headings=headings, rows=rows)


def _cell(value: str | int | float | None) -> Cell:
    if value is None:
        return Cell("", "", False)
    if isinstance(value, str):
        return Cell(words.visible(value, LONGEST_CELL), words.visible(value, LONGEST_HINT), False)
    text = str(value).replace("-", words.MINUS) if isinstance(value, int) else words.number(value)
    return Cell(text, repr(value), True)
