"""Room for numbers of any size beside the axes: nothing is cut off, nothing over anything else."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from claimlens.ci.figures.draw import draw
from claimlens.ci.figures.placing import Box
from claimlens.ci.selftests.test_figure_drawings import overlaps, texts
from claimlens.circuits.figures import (
    Bar,
    Bars,
    Figure,
    Heatmap,
    Histogram,
    Line,
    LineGrid,
    Panel,
    Point,
    Scatter,
)

SIZES = (1e9, 1e9 + 0.5, 987_654_321.5, -1e9, 100_000, 123_456.7, 1e-9, -1.5e-9, 1e290, 0.1)


def sized(size: float) -> dict[str, Figure]:
    """Every kind with an axis, its values from 0 to this, and around it."""
    found: dict[str, Figure] = {}
    for where, (a, b) in {"from 0": (0.0, size), "around": (size, size * 1.000001)}.items():
        up = sorted((a, b))
        found |= {
            f"lines {where}": LineGrid("t", "x", "y", up, [[Panel("p", [Line("a", [a, b])])] * 2]),
            f"lines down {where}": LineGrid("t", "x", "y", up, [[Panel("p", [Line("a", [b, a])])]]),
            f"cells {where}": Heatmap("t", "x", "y", ["a", "b"], ["c"], [[a, b]]),
            f"points {where}": Scatter("t", "x", "y", [Point(a, b), Point(b, a, "named")]),
            f"counts {where}": Histogram("t", "x", [a, b, b]),
            f"bars {where}": Bars("t", "y", [Bar("a", a), Bar("b", b)]),
        }
    return found


@pytest.mark.parametrize("size", SIZES)
def test_numbers_of_any_size_have_room(size: float) -> None:
    for name, figure in sized(size).items():
        document = draw(figure).standalone()
        found = [text for text in texts(document) if text.text.strip()]
        root = ElementTree.fromstring(document)
        sheet = Box(0, 0, float(root.get("width") or 0), float(root.get("height") or 0))
        assert [text for text in found if not sheet.holds(text.box)] == [], name
        label = Box(8, 0, 24, 1e9)  # the label of the vertical axis
        if "bars" not in name:
            assert [t for t in found if t.box.meets(label) and t.box.top > 36] == [], name
        assert overlaps(found) == [], name
