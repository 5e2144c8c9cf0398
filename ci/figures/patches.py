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
    found: dict[str, list[Patch]] = {"plus": [], "minus": []}
    for row, values in enumerate(figure.values):
        for first, last in _runs(values, largest, apart=cells <= few):
            value = values[first]
            patch = Patch(
                f"M{first} {row}h{last - first}v1h{first - last}",
                strength(value, largest),
                hint(figure, row, first) if cells <= few else _short(figure, row, first, last),
            )
            found["plus" if value > 0 else "minus"].append(patch)
    return found if cells <= most else {sign: _by_colour(each) for sign, each in found.items()}


def hint(figure: Heatmap, row: int, column: int) -> str:
    """`layer 9, head 6: 0.41`."""
    value = words.number(figure.values[row][column])
    return f"{figure.y_label} {figure.y[row]}, {figure.x_label} {figure.x[column]}: {value}"


def strength(value: float, largest: float) -> str:
    """How strong a value's colour is, in thousandths: `.123`; `0` for what no screen can show."""
    found = theme.strength(value, largest)
    return f"{found:.3f}".rstrip("0").rstrip(".").lstrip("0") if found >= FAINTEST else NONE


def _short(figure: Heatmap, row: int, first: int, last: int) -> str:
    """`9, 6: 0.41`; of a run `9, 6 to 11: 0 to 0.0001`."""
    values = figure.values[row][first:last]
    ends = list(dict.fromkeys(words.number(each, 3) for each in (min(values), max(values))))
    columns = [figure.x[first], *([figure.x[last - 1]] if last - first > 1 else [])]
    across = " to ".join(words.shortened(str(name), LONGEST) for name in columns)
    return f"{words.shortened(str(figure.y[row]), LONGEST)}, {across}: {' to '.join(ends)}"


def _runs(values: Sequence[float], largest: float, apart: bool) -> Iterator[tuple[int, int]]:
    """First and behind the last of the cells that are one patch."""
    at = 0
    for unseen, group in groupby(values, key=lambda value: strength(value, largest) == NONE):
        size = len(list(group))
        if unseen and not apart:
            yield at, at + size
        else:
            yield from ((i, i + 1) for i in range(at, at + size))
        at += size


def _by_colour(given: Sequence[Patch]) -> list[Patch]:
    paths: dict[str, list[str]] = {}
    for patch in given:
        paths.setdefault(patch.strength, []).append(patch.path)
    return [Patch("".join(found), level) for level, found in paths.items()]
