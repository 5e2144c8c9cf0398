"""How the cost of the head sweep grows: `ci/bench growth`."""

from __future__ import annotations

import pytest

from claimlens.ci.benchmarks.bench_heads import all_positions
from claimlens.ci.benchmarks.growth import AXES, Point, row_at, sizes
from claimlens.ci.benchmarks.harness import MeasureAt
from claimlens.ci.benchmarks.subject import Size


@pytest.mark.parametrize(
    ("axis", "size"),
    [
        pytest.param(axis, size, id=f"{axis}-{getattr(size, axis)}")
        for axis in AXES
        for size in sizes(axis)
    ],
)
def bench_growth(axis: str, size: Size, measured_at: MeasureAt, points: list[Point]) -> None:
    """One point of one axis."""
    points.append(Point.of(axis, size, measured_at(row_at(size), all_positions, size)))
