"""From any figure to its drawing."""

from __future__ import annotations

import re

from claimlens.ci.figures import bars, heatmap, histogram, line_grid, scatter, table, token_map
from claimlens.ci.figures.drawing import Drawing
from claimlens.circuits import figures

_ID = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


def draw(figure: figures.Figure, id: str = "figure") -> Drawing:
    """The drawing of a figure; `id` tells its parts from those of others in one page.

    Raises ValueError for an `id` that is none, TypeError for a kind that nobody draws.
    """
    if not _ID.fullmatch(id):
        raise ValueError(f"id {id!r}; expected a letter, then letters, digits and '-'")
    match figure:
        case figures.LineGrid():
            return line_grid.draw(figure, id)
        case figures.Heatmap():
            return heatmap.draw(figure, id)
        case figures.TokenMap():
            return token_map.draw(figure, id)
        case figures.Scatter():
            return scatter.draw(figure, id)
        case figures.Histogram():
            return histogram.draw(figure, id)
        case figures.Bars():
            return bars.draw(figure, id)
        case figures.Table():
            return table.draw(figure, id)
        case _:
            raise TypeError(f"nothing draws a {type(figure).__name__}")
