"""How the benchmarks' cost is said to grow, and how it is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from claimlens.ci.benchmarks import growth


def grown(axis: str) -> list[growth.Point]:
    """Points that follow the law, at a million operations a ms."""
    law = [(getattr(size, axis), growth.operations(size)) for size in growth.sizes(axis)]
    return [growth.Point(axis, at, of / 1e6, 5 * of / 1e6, of, of) for at, of in law]


def test_the_plan_grows_as_it_is_said_to() -> None:
    layers = [point.law for point in grown("layers")]
    assert 3.8 < layers[2] / layers[1] < 4.2
    batch = [point.law / point.at for point in grown("batch")]
    assert max(batch) == pytest.approx(min(batch))
    width = [point.law for point in grown("width")]
    assert 7 < width[1] / width[0] < 8.1


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
