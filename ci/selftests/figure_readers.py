"""Data of drawn figures, read back: from tick labels to scales, from pixels to values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from claimlens.ci.figures import words
from claimlens.ci.figures.drawing import Drawing
from claimlens.ci.selftests.heatmap_cells import SVG


@dataclass(frozen=True)
class Scale:
    """A linear map from pixels to values, from the first and the last labelled tick."""

    pixels: tuple[float, float]
    values: tuple[float, float]

    def __call__(self, pixel: float) -> float:
        share = (pixel - self.pixels[0]) / (self.pixels[1] - self.pixels[0])
        return self.values[0] + share * (self.values[1] - self.values[0])

    @property
    def half_pixel(self) -> float:
        """Half a pixel's worth of values."""
        return abs(self(0.5) - self(0.0))


def parsed(drawing: Drawing) -> ElementTree.Element:
    return ElementTree.fromstring(drawing.standalone())


def number(element: ElementTree.Element, name: str) -> float:
    return float(element.get(name, "nan"))


def scales(panel: ElementTree.Element) -> tuple[Scale | None, Scale | None]:
    """The horizontal and the vertical scale of a panel, from its tick labels."""
    across: list[tuple[float, float]] = []
    up: list[tuple[float, float]] = []
    for text in panel.findall(f"{SVG}text"):
        kind, told = text.get("class") or "", (text.text or "").replace(words.MINUS, "-")
        if kind == "small faint middle" and told:
            across.append((number(text, "x"), float(told)))
        elif kind == "small faint end" and told:
            up.append((number(text, "y") - 4, float(told)))
    return _scale(across), _scale(up)


def _scale(ticks: Sequence[tuple[float, float]]) -> Scale | None:
    if len(ticks) < 2:
        return None
    (a, x), (b, y) = ticks[0], ticks[-1]
    return Scale((a, b), (x, y))


def body(drawing: Drawing) -> ElementTree.Element:
    """The part of an SVG below its title."""
    return next(g for g in parsed(drawing).findall(f"{SVG}g") if g.get("transform"))


def bars_of(drawing: Drawing) -> tuple[Scale, list[tuple[str, float, float, str]]]:
    """The scale; of each bar its name, its value and its start in data, and what it says."""
    inside = body(drawing)
    scale = scales(inside)[0]
    assert scale is not None
    found = []
    for group in inside.findall(f"{SVG}g"):
        rect, name = group.find(f"{SVG}rect"), group.findtext(f"{SVG}text") or ""
        assert rect is not None
        left, right = number(rect, "x"), number(rect, "x") + number(rect, "width")
        ends = (right, left) if rect.get("class") == "plus" else (left, right)
        said = (group.findtext(f"{SVG}title") or "").rpartition(": ")[2]
        found.append((name, scale(ends[0]), scale(ends[1]), said))
    return scale, found


def points_of(drawing: Drawing) -> tuple[Scale, Scale, list[tuple[float, float]]]:
    """Both scales, and the points: the unnamed ones first, in order."""
    inside = body(drawing)
    x, y = scales(inside)
    assert x is not None
    assert y is not None
    dots = [(x(number(c, "cx")), y(number(c, "cy"))) for c in inside.iter(f"{SVG}circle")]
    return x, y, dots


def columns_of(drawing: Drawing) -> tuple[Scale, list[float]]:
    """The vertical scale and the height of each column, in counts."""
    inside = body(drawing)
    y = scales(inside)[1]
    assert y is not None
    rects = [r for r in inside.findall(f"{SVG}rect") if r.get("class") == "area s0"]
    return y, [y(number(r, "y")) - y(number(r, "y") + number(r, "height")) for r in rects]


def lines_of(drawing: Drawing) -> tuple[Scale, Scale, dict[str, list[tuple[float, float]]]]:
    """Of a grid of one panel: both scales, and each line's vertices by its name."""
    panel = next(g for g in body(drawing).findall(f"{SVG}g") if g.find(f"{SVG}g") is not None)
    x, y = scales(panel)
    assert x is not None
    assert y is not None
    found = {}
    for group in panel.findall(f"{SVG}g"):
        line = group.find(f"{SVG}polyline")
        assert line is not None
        pairs = [pair.split(",") for pair in (line.get("points") or "").split()]
        found[group.findtext(f"{SVG}title") or ""] = [(x(float(a)), y(float(b))) for a, b in pairs]
    return x, y, found
