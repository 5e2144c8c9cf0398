"""The picture of a claim's interval: everything stands where its number says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from claimlens.ci.report.names import page_of
from claimlens.ci.selftests.records import comparison
from claimlens.ci.selftests.report_samples import finding, run, written
from claimlens.circuits.record import ComparisonRecord

LEFT, RIGHT = 12.0, 408.0
EXAMPLES = {
    "holds": (0.41, 0.3, 0.52, ">=", 0.25),
    "below": (-0.8, -1.1, -0.5, "<=", -0.2),
    "large": (1e5, 9e4, 1.2e5, ">", 5e4),
    "a point": (1.0, 1.0, 1.0, "<", 0.5),
}


def given(value: float, low: float, high: float, relation: str, at: float) -> ComparisonRecord:
    changes = {"value": value, "low": low, "high": high, "relation": relation, "threshold": at}
    return replace(comparison(), **changes)  # type: ignore[arg-type]  # numbers and a sign


def drawn(folder: Path, shown: ComparisonRecord) -> str:
    page = (written(folder, run(finding(comparisons=[shown]))) / page_of("ioi/x")).read_text(
        "utf-8"
    )
    found = re.search(r'<svg class="interval".*?</svg>', page, re.DOTALL)
    assert found is not None
    return found[0]


def pixel(svg: str, start: str, name: str) -> float:
    found = re.search(rf'<{start}[^>]*? {name}="([-\d.]+)"', svg)
    assert found is not None, (start, name)
    return float(found[1])


def stands(svg: str, c: ComparisonRecord) -> bool:
    """Whether value, interval, threshold and side stand where the ends of the line say."""
    ends = [float(e) for e in re.findall(r'class="small">([-\d.e+]+)', svg)]
    assert len(ends) == 2
    worth = (ends[1] - ends[0]) / (RIGHT - LEFT)
    room = 0.51 + 0.005 * max(map(abs, ends)) / worth  # the ends are written in three digits

    def at(value: float) -> float:
        return LEFT + (value - ends[0]) / worth

    side, width = pixel(svg, "rect", "x"), pixel(svg, "rect", "width")
    edge = side if c.relation in (">=", ">") else side + width
    other = side + width if c.relation in (">=", ">") else side
    pairs = [
        (pixel(svg, "circle", "cx"), at(c.value)),
        (pixel(svg, 'line class="reach"', "x1"), at(c.low)),
        (pixel(svg, 'line class="reach"', "x2"), at(c.high)),
        (pixel(svg, 'line class="threshold"', "x1"), at(c.threshold)),
        (edge, at(c.threshold)),
        (other, RIGHT if c.relation in (">=", ">") else LEFT),
    ]
    return all(abs(a - b) <= room for a, b in pairs)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_everything_stands_where_its_number_says(
    example: tuple[float, float, float, str, float], tmp_path: Path
) -> None:
    assert stands(drawn(tmp_path, given(*example)), given(*example))


@pytest.mark.parametrize("change", ["value", "low", "high", "threshold"])
def test_what_stands_elsewhere_is_noticed(change: str, tmp_path: Path) -> None:
    shown = given(*EXAMPLES["holds"])
    svg = drawn(tmp_path, shown)
    assert stands(svg, shown)
    wrong = replace(shown, **{change: getattr(shown, change) + 0.05})
    assert not stands(svg, wrong)
    assert not stands(svg, replace(shown, relation="<="))
