"""Figures as data: plain JSON there and back, and nothing that could not be shown truthfully."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from claimlens.ci.selftests.figure_samples import HOSTILE, SAMPLES, hostile
from claimlens.ci.selftests.processes import ROOT
from claimlens.circuits.figures import (
    BadFigure,
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
    Table,
    TokenMap,
)
from claimlens.circuits.verdict import NotMeasured

NAN, INF = float("nan"), float("inf")
EVERY = {**{name: make() for name, make in SAMPLES.items()}, **hostile()}


@pytest.mark.parametrize("figure", EVERY.values(), ids=EVERY)
def test_what_is_written_as_json_is_read_back(figure: Figure) -> None:
    data = json.loads(json.dumps(figure.to_json(), allow_nan=False))
    assert data == figure.to_json()
    assert Figure.from_json(data) == figure
    assert type(figure).from_json(data) == figure


def test_every_kind_is_covered() -> None:
    assert {type(figure).__name__ for figure in EVERY.values()} == set(Figure.kinds)
    assert HOSTILE


@pytest.mark.parametrize("given", [torch.tensor, np.array, tuple, iter], ids=lambda f: f.__name__)
def test_numbers_come_as_lists_arrays_or_tensors(given: Callable[[list[float]], Any]) -> None:
    assert Line("a", given([1.0, 2.5])) == Line("a", [1, 2.5])


def test_the_data_needs_no_torch() -> None:
    code = "import sys, claimlens.circuits.figures; print('torch' in sys.modules)"
    place = f"import sys, types; m = types.ModuleType('claimlens'); m.__path__ = [{str(ROOT)!r}]"
    command = [sys.executable, "-c", f"{place}; sys.modules['claimlens'] = m; {code}"]
    assert subprocess.check_output(command, text=True).strip() == "False"


def grid(**changes: Any) -> LineGrid:
    panel = Panel("p", [Line("a", [1, 2])])
    given = {"title": "t", "x_label": "x", "y_label": "y", "x": [0, 1], "rows": [[panel]]}
    return LineGrid(**{**given, **changes})


def heat(**changes: Any) -> Heatmap:
    given = {"title": "t", "x_label": "x", "y_label": "y", "x": "ab", "y": ["c"]}
    return Heatmap(**{**given, "x": ["a", "b"], "values": [[1, 2]], **changes})


def token_map(**changes: Any) -> TokenMap:
    given = {"title": "t", "unit": "u", "tokens": [["a", "b"], ["c"]]}
    return TokenMap(**{**given, "frames": {"f": [[1, 2], [3]]}, **changes})


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "NaN in a line": (lambda: Line("a", [1, NAN]), "line 'a', value 1: nan is not finite"),
    "infinity in a line": (lambda: Line("a", [INF]), "inf is not finite"),
    "a line of nothing": (lambda: Line("a", []), "is empty"),
    "a line of words": (lambda: Line("a", ["1"]), "'1' is not a number"),  # type: ignore[list-item]  # on purpose
    "a number for a line": (lambda: Line("a", 3.0), "expected a list, got 3.0"),  # type: ignore[arg-type]  # on purpose
    "a scalar tensor": (lambda: Line("a", torch.tensor(3.0)), "expected a list"),  # type: ignore[arg-type]  # on purpose
    "a matrix for a line": (lambda: Line("a", torch.ones(2, 2)), "is not a number"),  # type: ignore[arg-type]  # on purpose
    "a number beyond all axes": (lambda: Point(1e301, 0), "too large to show"),
    "half a band": (lambda: Line("a", [1], low=[0]), "both low and high"),
    "a short band": (lambda: Line("a", [1, 2], [0], [3]), "low has 1 values; expected 2"),
    "a crossed band": (lambda: Line("a", [1], [2], [0]), "low 2 lies above high 0"),
    "a panel of nothing": (lambda: Panel("p", []), "panel 'p' is empty"),
    "a panel of numbers": (lambda: Panel("p", [1]), "expected Line, got 1"),  # type: ignore[list-item]  # on purpose
    "a grid of one scale": (lambda: grid(x=[0]), "two or more rising values"),
    "falling scales": (lambda: grid(x=[1, 0]), "two or more rising values"),
    "other scales": (lambda: grid(x=[0, 1, 2]), "line 'a' has 2 values; expected 3"),
    "no panels": (lambda: grid(rows=[]), "rows is empty"),
    "an empty row": (lambda: grid(rows=[[]]), "row 0 is empty"),
    "a wide matrix": (lambda: heat(values=[[1, 2, 3]]), "row 0 has 3 values; expected 2"),
    "a high matrix": (lambda: heat(values=[[1, 2]] * 2), "has 2 rows of values; expected 1"),
    "NaN in a matrix": (lambda: heat(values=[[1, NAN]]), "row 0, value 1: nan"),
    "nothing but gaps": (lambda: heat(values=[[None, None]]), "every value is None"),
    "NaN beside a gap": (lambda: heat(values=[[None, NAN]]), "row 0, value 1: nan"),
    "notes of another shape": (lambda: heat(notes=[["a"]]), r"rows of \[1\]; expected 1 rows of 2"),
    "a note for all": (lambda: heat(notes="ab"), "notes: expected a list, got 'ab'"),
    "a marked cell outside": (lambda: heat(marked=[(1, 0)]), "row 1, column 0.*outside 1 rows"),
    "a name for a list": (lambda: heat(x="ab"), "expected a list, got 'ab'"),
    "no frames": (lambda: token_map(frames={}), "frames maps the name"),
    "a short frame": (lambda: token_map(frames={"f": [[1], [3]]}), "'f', row 0 has 1 values"),
    "a missing row": (lambda: token_map(frames={"f": [[1, 2]]}), "has 1 rows of values"),
    "no tokens": (lambda: token_map(tokens=[]), "tokens is empty"),
    "an unknown layout": (lambda: token_map(layout="tree"), "layout='tree'"),
    "NaN in a point": (lambda: Point(NAN, 0, "a"), "point 'a', x: nan"),
    "no points": (lambda: Scatter("t", "x", "y", []), "is empty"),
    "no values": (lambda: Histogram("t", "x", []), "is empty"),
    "no bins": (lambda: Histogram("t", "x", [1], 0), "bins=0"),
    "half a bin": (lambda: Histogram("t", "x", [1], 2.5), "bins=2.5"),  # type: ignore[arg-type]  # on purpose
    "no bars": (lambda: Bars("t", "y", []), "is empty"),
    "half an interval": (lambda: Bar("a", 1, low=0), "both low and high"),
    "a crossed interval": (lambda: Bar("a", 1, 2, 0), "low 2 lies above high 0"),
    "an infinite bar": (lambda: Bar("a", -INF), "-inf is not finite"),
    "a short row": (lambda: Table("t", ["a", "b"], [[1]]), "row 0 has 1 cells for 2 columns"),
    "NaN in a cell": (lambda: Table("t", ["a"], [[NAN]]), "row 0: nan is not finite"),
    "an object in a cell": (lambda: Table("t", ["a"], [[object()]]), "is not a number"),  # type: ignore[list-item]  # on purpose
    "no rows": (lambda: Table("t", ["a"], []), "rows is empty"),
}


@pytest.mark.parametrize(("make", "why"), BAD.values(), ids=BAD)
def test_what_cannot_be_shown_is_refused(make: Callable[[], object], why: str) -> None:
    with pytest.raises(BadFigure, match=why):
        make()


def test_in_a_claim_a_bad_figure_means_not_measured() -> None:
    assert issubclass(BadFigure, NotMeasured)


DAMAGED: dict[str, tuple[Any, str]] = {
    "a list": ([], "read from a mapping"),
    "no kind": ({}, "kind None; expected Bars, Heatmap"),
    "another kind": ({"kind": "Pie"}, "kind 'Pie'"),
    "a missing field": ({"kind": "Histogram", "title": "t"}, "no values, x_label"),
    "an unknown field": (
        {"kind": "Bars", "title": "t", "y_label": "y", "bars": [{"name": "a", "value": 1}], "z": 1},
        "unknown fields z",
    ),
    "a part of another kind": (
        {"kind": "Bars", "title": "t", "y_label": "y", "bars": [3]},
        "Bar is read from a mapping; got 3",
    ),
    "no parts": ({"kind": "LineGrid", "title": "t", "rows": None}, "rows: expected a list"),
    "a panel without lines": ({"kind": "LineGrid", "rows": [[{"title": "t"}]]}, "lines of a panel"),
}


@pytest.mark.parametrize(("data", "why"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_json_is_refused(data: Any, why: str) -> None:
    with pytest.raises(BadFigure, match=why):
        Figure.from_json(data)


def test_a_figure_of_another_kind_is_refused() -> None:
    with pytest.raises(BadFigure, match="kind 'Heatmap'; expected Bars"):
        Bars.from_json(heat().to_json())
