"""Tokens coloured by their values, with a switch of frames that needs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from claimlens.ci.figures import theme, words
from claimlens.ci.figures.drawing import Drawing, html
from claimlens.circuits.figures import TokenMap

LONGEST_TOKEN, LONGEST_HINT = 32, 400


@dataclass(frozen=True)
class Cell:
    """One token: what is shown, its colour's class, and its value in words."""

    text: str
    color: str
    hint: str


@dataclass(frozen=True)
class Frame:
    """One head or component."""

    name: str
    rows: Sequence[Sequence[Cell]]


def draw(figure: TokenMap, id: str) -> Drawing:
    """A page part: radio buttons for the frames, one colour bar, and the tokens."""
    largest = max(abs(v) for rows in figure.frames.values() for row in rows for v in row)
    frames = [_frame(figure, name, largest) for name in figure.frames]
    return html(
        "token_map.html.jinja",
        id,
        figure.title,
        style=theme.levels() + _switch(id, len(frames)),
        figure=figure,
        frames=frames,
        columns=range(max(map(len, figure.tokens))),
        bar=_bar(figure, largest),
        ends=(words.number(-largest, 3), words.number(largest, 3)),
    )


def _frame(figure: TokenMap, name: str, largest: float) -> Frame:
    rows = zip(figure.tokens, figure.frames[name], strict=True)
    return Frame(
        words.visible(name, 60),
        [
            [cell_of(text, value, largest, figure.unit) for text, value in zip(*row, strict=True)]
            for row in rows
        ],
    )


def cell_of(text: str, value: float, largest: float, unit: str) -> Cell:
    """A token, coloured by its value on a scale that ends at `largest` on either side."""
    whole = words.visible(text, LONGEST_HINT)
    hint = f"{whole}: {words.number(value)} {unit}".rstrip()
    return Cell(words.token(text, LONGEST_TOKEN), theme.level(value, largest), hint)


def _bar(figure: TokenMap, largest: float) -> list[str]:
    """Classes of the colour bar, from its lowest colour to its highest; only signs that occur."""
    values = [v for rows in figure.frames.values() for row in rows for v in row]
    low = -theme.LEVELS if min(values) < 0 else 0
    high = theme.LEVELS if max(values) > 0 else 0
    steps = range(low, high + 1)
    return [theme.level(largest * i / theme.LEVELS, largest) for i in steps]


def _switch(id: str, frames: int) -> str:
    """Rules that show the frame whose radio button is chosen."""
    return "".join(f"#{id}-{i}:checked~.frames>.frame-{i}{{display:block}}" for i in range(frames))
