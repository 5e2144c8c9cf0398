"""The map of heads: every value at its head, ranks when pointed at, and what was not tried."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from claimlens.ci.figures.draw import draw
from claimlens.ci.figures.head_map import head_map
from claimlens.ci.selftests.heatmap_cells import SVG, cells_of
from claimlens.circuits.figures import BadFigure, Figure, Heatmap

VALUES = {"L2H3": 0.81, "L1H0": -0.2, "L2H4": 0.1}


def drawn(**changes: Any) -> Heatmap:
    given = {"values": VALUES, "claimed": ["L2H3"], "unit": "share", "title": "Attention"}
    return head_map(**{**given, **changes})


def test_every_head_has_its_value_its_rank_and_its_place() -> None:
    cells = cells_of(draw(drawn()))
    assert len(cells) == 3 * 5
    assert cells[2, 3].hint == "layer 2, head 3: 0.81, rank 1 of 3, claimed"
    assert (cells[2, 3].sign, cells[2, 3].strength) == ("plus", 1)
    assert cells[1, 0].hint == "layer 1, head 0: −0.2, rank 3 of 3"  # noqa: RUF001  (a true minus sign)
    assert cells[1, 0].sign == "minus"
    assert cells[0, 0].hint == "layer 0, head 0: not tried"
    assert [place for place, cell in cells.items() if cell.sign != "gap"] == [
        (2, 3),
        (2, 4),
        (1, 0),
    ]


def test_where_the_least_is_wanted_it_ranks_first() -> None:
    assert drawn(largest_first=False).notes[1][0] == "rank 1 of 3"


def test_a_claimed_head_without_a_value_is_outlined_too() -> None:
    figure = drawn(claimed=["4.4"])
    assert figure.marked == ((4, 4),)
    assert figure.values[4][4] is None
    assert cells_of(draw(figure))[4, 4].hint == "layer 4, head 4: not tried, claimed"


def test_the_models_shape_is_drawn_whole() -> None:
    figure = drawn(shape=(12, 16))
    assert (len(figure.y), len(figure.x)) == (12, 16)
    assert Figure.from_json(figure.to_json()) == figure


def strokes(figure: Heatmap) -> list[tuple[float, float]]:
    """Where the strokes through cells begin, and that of the key."""
    root = ElementTree.fromstring(draw(figure).standalone())
    paths = [path.get("d", "") for path in root.iter(f"{SVG}path") if path.get("class") == "leader"]
    return [(float(x), float(y)) for d in paths for x, y in re.findall(r"M([\d.]+) ([\d.]+)l", d)]


def test_what_was_not_tried_is_struck_through_and_said() -> None:
    document = draw(drawn()).standalone()
    assert len(strokes(drawn())) == 12 + 1
    assert ">not tried</text>" in document
    assert "12 not tried" in document.partition("</desc>")[0]
    whole = head_map({f"0.{i}": 1.0 for i in range(4)}, ["0.0"], "share", "All")
    assert strokes(whole) == []
    assert "not tried" not in draw(whole).standalone()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"values": {}, "claimed": []}, "no head has a value"),
        ({"values": {}}, "every value is None"),
        ({"values": {"<b>": 1.0}}, "not a head: '<b>'"),
        ({"claimed": ["L999999H0"]}, "at most 256 layers of 256 heads"),
        ({"values": {"L0H0": float("nan")}}, "nan is not finite"),
        ({"shape": (2, 12)}, "2 layers of 12 heads; it names layer 2 and head 4"),
    ],
)
def test_what_is_no_map_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BadFigure, match=re.escape(why)):
        drawn(**changes)
