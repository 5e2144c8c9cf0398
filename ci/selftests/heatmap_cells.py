"""The cells of a heatmap's drawing, read back from its paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

from claimlens.ci.figures.drawing import Drawing

SVG = "{http://www.w3.org/2000/svg}"
_RUN = re.compile(r"M(\d+) (\d+)h(\d+)v1h-(\d+)")


@dataclass(frozen=True)
class Seen:
    """One cell: its colour's sign, how strong that is, and what it says when pointed at."""

    sign: str
    strength: float
    hint: str


def cells_of(drawing: Drawing) -> dict[tuple[int, int], Seen]:
    """By row and column; raises ValueError where a cell is drawn twice or a path is no run."""
    found: dict[tuple[int, int], Seen] = {}
    for group in ElementTree.fromstring(drawing.standalone()).iter(f"{SVG}g"):
        sign = group.get("class", "")
        for path in group.findall(f"{SVG}path") if sign in ("plus", "minus", "gap") else ():
            hint = path.findtext(f"{SVG}title") or ""
            seen = Seen(sign, float(path.get("opacity", "1")), hint)
            for cell in _cells(path.get("d", "")):
                if cell in found:
                    raise ValueError(f"row and column {cell} are drawn twice")
                found[cell] = seen
    return found


def _cells(path: str) -> list[tuple[int, int]]:
    if _RUN.sub("", path):
        raise ValueError(f"not a path of cells: {path}")
    runs = [tuple(map(int, run)) for run in _RUN.findall(path)]
    if any(there != back for _, _, there, back in runs):
        raise ValueError(f"a run that does not close: {path}")
    return [(row, column + i) for column, row, size, _ in runs for i in range(size)]
