"""The cells of a heatmap as paths, so that thousands of them are a small file.

A path is in units of a cell: `M3 7h1v1h-1` is column 3 of row 7. What cannot be told from paper is
drawn as one patch where it lies side by side in a large map, and its hint gives the range.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from claimlens.ci.figures import theme, words
from claimlens.circuits.figures import Heatmap

NONE, FAINTEST, LONGEST = "0", 1 / 510, 24
"""How strong no colour is; what a screen of 256 levels can show; characters of a name in a hint."""
GAP = "gap"
"""The sign of a cell without a value."""


@dataclass(frozen=True)
class Patch:
    """Cells of one colour: where they are, how strong it is (0 to 1), and what they say."""

    path: str
    strength: str
    hint: str = ""


def patches(figure: Heatmap, largest: float, few: int, most: int) -> dict[str, list[Patch]]:
    """The patches of each sign.

    Up to `few` cells each has a patch of its own, with its whole hint; up to `most` its hint is
    short; beyond, all cells of one colour are a patch without one.
    """
    cells = len(figure.x) * len(figure.y)
    found: dict[str, list[Patch]] = {"plus": [], "minus": [], GAP: []}
    for row, values in enumerate(figure.values):
        for first, last in _runs(values, largest, apart=cells <= few):
            value = values[first]
            patch = Patch(
                f"M{first} {row}h{last - first}v1h{first - last}",
                strength(value, largest),
                hint(figure, row, first) if cells <= few else _short(figure, row, first, last),
            )
            found[sign(value)].append(patch)
    return found if cells <= most else {sign: _by_colour(each) for sign, each in found.items()}


def hint(figure: Heatmap, row: int, column: int) -> str:
    """`layer 9, head 6: 0.41`, and the cell's note where it has one."""
    value = figure.values[row][column]
    told = figure.gap if value is None else words.number(value)
    note = figure.notes[row][column] if figure.notes else ""
    place = f"{figure.y_label} {figure.y[row]}, {figure.x_label} {figure.x[column]}"
    return f"{place}: {told}{note and f', {note}'}"


def sign(value: float | None) -> str:
    """The class of a cell."""
    return GAP if value is None else "plus" if value > 0 else "minus"


def strength(value: float | None, largest: float) -> str:
    """How strong a value's colour is, in thousandths: `.123`; `0` for what no screen can show."""
    found = 0.0 if value is None else theme.strength(value, largest)
    return f"{found:.3f}".rstrip("0").rstrip(".").lstrip("0") if found >= FAINTEST else NONE


def _short(figure: Heatmap, row: int, first: int, last: int) -> str:
    """`9, 6: 0.41`; of a run `9, 6 to 11: 0 to 0.0001`."""
    values = [value for value in figure.values[row][first:last] if value is not None]
    ends = [words.number(end, 3) for end in (min(values), max(values))] if values else [figure.gap]
    columns = [figure.x[first], *([figure.x[last - 1]] if last - first > 1 else [])]
    across = " to ".join(words.shortened(str(name), LONGEST) for name in columns)
    told = " to ".join(dict.fromkeys(ends))
    return f"{words.shortened(str(figure.y[row]), LONGEST)}, {across}: {told}"


def _runs(values: Sequence[float | None], largest: float, apart: bool) -> Iterator[tuple[int, int]]:
    """First and behind the last of the cells that are one patch."""
    at = 0
    unseen = ((value is None, strength(value, largest) == NONE) for value in values)
    for (_, blank), group in groupby(unseen):
        size = len(list(group))
        if blank and not apart:
            yield at, at + size
        else:
            yield from ((i, i + 1) for i in range(at, at + size))
        at += size


def _by_colour(given: Sequence[Patch]) -> list[Patch]:
    paths: dict[str, list[str]] = {}
    for patch in given:
        paths.setdefault(patch.strength, []).append(patch.path)
    return [Patch("".join(found), level) for level, found in paths.items()]
