"""How often values occur."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from claimlens.ci.figures import words
from claimlens.ci.figures.drawing import Drawing, Sheet, svg
from claimlens.ci.figures.scale import Axis
from claimlens.circuits.figures import Histogram

WIDTH, HEIGHT = 520.0, 260.0


@dataclass(frozen=True)
class Column:
    """One bin: its place, and what it says of itself."""

    x: float
    width: float
    y: float
    height: float
    hint: str


def draw(figure: Histogram, id: str) -> Drawing:
    """One column per bin; the last bin holds its upper end."""
    counts, edges = bins(figure)
    y = Axis.over([0, max(counts)], HEIGHT, 8)
    beyond = Axis.within([edges[0], edges[-1]], 1, 0, about=8).overhang
    left = max(40.0 + y.label_width, 24.0 + beyond)
    x = Axis.within([edges[0], edges[-1]], left, left + WIDTH, about=8)
    columns = [
        Column(
            x=x(low),
            width=max(x(high) - x(low) - 1, 0.5),
            y=y(count),
            height=y(0) - y(count),
            hint=f"{words.number(low)} to {words.number(high)}: {count}",
        )
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    width = left + WIDTH + max(30.0, beyond)
    sheet = Sheet(id, figure.title, _description(figure), width, HEIGHT + 44)
    return svg("histogram.svg.jinja", sheet, figure=figure, x=x, y=y, columns=columns)


def bins(figure: Histogram) -> tuple[list[int], list[float]]:
    """The number of values in each bin, and the edges between bins."""
    values = np.asarray(figure.values, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    edges = Axis.within([low, high], 0, 1)  # moved apart where all values are equal
    step = (edges.high - edges.low) / figure.bins
    bounds = [edges.low + i * step for i in range(figure.bins)] + [edges.high]
    places = np.searchsorted(np.asarray(bounds), values, side="right") - 1
    places = np.clip(places, 0, figure.bins - 1)
    counts = np.bincount(places, minlength=figure.bins)
    return [int(count) for count in counts], bounds


def _description(figure: Histogram) -> str:
    values = np.asarray(figure.values)
    return (
        f"{len(values)} values of {figure.x_label} from {words.number(float(values.min()))} to "
        f"{words.number(float(values.max()))}, median {words.number(float(np.median(values)))}"
    )
