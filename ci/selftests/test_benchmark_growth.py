"""How the benchmarks' cost is said to grow, and how it is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from claimlens.ci.benchmarks import growth
from claimlens.ci.benchmarks.bench_heads import all_positions
from claimlens.ci.benchmarks.subject import Size, make
from claimlens.ci.benchmarks.timing import with_operations


def grown(axis: str) -> list[growth.Point]:
    """Points that follow the law, at a million operations a ms."""
    law = [(getattr(size, axis), growth.operations(size)) for size in growth.sizes(axis)]
    return [growth.Point(axis, at, of / 1e6, 5 * of / 1e6, of, of) for at, of in law]


def test_the_plan_grows_as_it_is_said_to() -> None:
    layers = [point.law for point in grown("layers")]
    assert 4 < layers[2] / layers[1] < 4.5  # (n - 1) n / 2 layers, and n MLPs of their own
    batch = [point.law / point.at for point in grown("batch")]
    assert max(batch) == pytest.approx(min(batch))
    width = [point.law for point in grown("width")]
    assert 7 < width[1] / width[0] < 8.1


@pytest.mark.parametrize(
    "size",
    [
        Size(batch=3, tokens=10, layers=4, width=128, heads=2, vocabulary=300),
        Size(batch=4, tokens=20, layers=6, width=256, heads=4, vocabulary=300),
    ],
)
def test_the_plan_is_what_torch_counts(size: Size) -> None:
    started = all_positions(subject := make(size)).started(subject)
    with torch.no_grad():
        _, counted = with_operations(started)
    assert counted == pytest.approx(growth.operations(size), rel=0.03)


def test_the_points_are_drawn_beside_the_law(tmp_path: Path) -> None:
    points = [point for axis in growth.AXES for point in grown(axis)]
    files = growth.write_figures(points, tmp_path)
    assert [file.name for file in files] == [f"growth-{axis}.svg" for axis in growth.AXES]
    assert "by the plan" in files[0].read_text()
    (panel,) = growth.figures(points)["tokens"].rows[0]
    measured_line, law = panel.lines
    assert list(law.y) == pytest.approx(list(measured_line.y))


def test_an_axis_that_was_not_finished_is_not_drawn() -> None:
    assert set(growth.complete(grown("tokens")[:2] + grown("batch"))) == {"batch"}
