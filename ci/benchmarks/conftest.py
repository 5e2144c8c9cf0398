"""The options and fixtures of `ci/bench`, and the table at its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claimlens.ci.benchmarks import growth
from claimlens.ci.benchmarks.harness import Measure, MeasureAt, measure, quicker, with_peak
from claimlens.ci.benchmarks.machine import in_words, machine
from claimlens.ci.benchmarks.result import Result
from claimlens.ci.benchmarks.rows import Row, read_rows
from claimlens.ci.benchmarks.subject import TINY, Size, Subject, make
from claimlens.ci.benchmarks.sweep import Build
from claimlens.ci.benchmarks.table import PAGE, Report, save, write_page
from claimlens.ci.benchmarks.timing import Repeat, Step

RESULTS = pytest.StashKey[list[Result]]()
POINTS = pytest.StashKey[list[growth.Point]]()
DRAWINGS = PAGE.with_suffix("")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `ci/bench` takes."""
    group = parser.getgroup("claimlens benchmarks")
    group.addoption("--rows", default="", help="the rows to measure, as a,b; all without it")
    group.addoption("--quick", action="store_true", help="fewer rounds, and no peak memory")
    group.addoption("--json", type=Path, help="write the results to this file")
    group.addoption("--device", default="cpu", help="cpu or cuda")
    group.addoption("--write-docs", action="store_true", help="write the table into docs/speed.md")
    group.addoption("--tiny", action="store_true", help="a model of two layers: to try it out")


def pytest_configure(config: pytest.Config) -> None:
    """Results are gathered over the run."""
    config.stash[RESULTS] = []
    config.stash[POINTS] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the rows that were asked for; raises UsageError for one that is none."""
    asked = [name for name in config.getoption("--rows").split(",") if name]
    if unknown := [name for name in asked if name not in read_rows()]:
        raise pytest.UsageError(f"no row {', '.join(unknown)}; there are {', '.join(read_rows())}")
    if asked:
        items[:] = [item for item in items if _row(item) in asked]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was measured; write it where that was asked for."""
    results, points = config.stash[RESULTS], config.stash[POINTS]
    found = machine(config.getoption("--device")) if results or points else {}
    if results:
        report = Report(found, results)
        terminalreporter.write(report.shown())
        _keep(config, report.to_json(), "table", report.markdown())
    if points:
        text = growth.markdown(points)
        terminalreporter.write(f"{text}\n")
        if config.getoption("--write-docs"):
            files = growth.write_figures(points, DRAWINGS)
            shown = (f"![{file.stem}]({DRAWINGS.name}/{file.name})" for file in files)
            text = "\n\n".join([f"{in_words(found)}.", text, *shown])
        _keep(config, growth.to_json(points, found), "growth", text)


@pytest.fixture(scope="session")
def subject(pytestconfig: pytest.Config) -> Callable[[Size], Subject]:
    """The model of a size with the prompts of that size; one model is held at a time."""
    made: list[Subject] = []

    def of(size: Size) -> Subject:
        if not made or not made[0].fits(size):
            made.clear()
            made.append(make(size, pytestconfig.getoption("--device")))
        return made[0].of(size)

    return of


@pytest.fixture(scope="session")
def points(pytestconfig: pytest.Config) -> list[growth.Point]:
    """Where the points of `growth` are gathered."""
    return pytestconfig.stash[POINTS]


@pytest.fixture
def repeat(benchmark: Any) -> Repeat:
    """pytest-benchmark's rounds of our sweep, those of the peers between them as its set-up."""

    def rounds(target: Step, before: Step, number: int) -> None:
        benchmark.pedantic(target, setup=lambda: before() and None, rounds=number)

    return rounds


@pytest.fixture
def measured_at(
    pytestconfig: pytest.Config, subject: Callable[[Size], Subject], repeat: Repeat
) -> MeasureAt:
    """`measured_at(row, build, size)`: its result."""
    quick = pytestconfig.getoption("--quick")

    def run(row: Row, build: Build, size: Size) -> Result:
        return measure(quicker(row) if quick else row, build, subject(size), repeat)

    return run


@pytest.fixture
def measured(pytestconfig: pytest.Config, measured_at: MeasureAt) -> Measure:
    """`measured(row, build)`: a row of the table, red where it misses what it must reach."""

    def run(name: str, build: Build) -> None:
        row, tiny = read_rows()[name], pytestconfig.getoption("--tiny")
        result = measured_at(row, build, TINY if tiny else row.size)
        if not (tiny or pytestconfig.getoption("--quick")):
            result = with_peak(result, pytestconfig.getoption("--device"))
        pytestconfig.stash[RESULTS].append(result)
        if missed := list(result.missed()):
            pytest.fail("; ".join(missed), pytrace=False)

    return run


def _keep(config: pytest.Config, data: dict[str, Any], part: str, text: str) -> None:
    """Into the files that were asked for."""
    if file := config.getoption("--json"):
        save(data, file)
    if config.getoption("--write-docs"):
        write_page(text, part)


def _row(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return "" if callspec is None else str(callspec.params.get("row", ""))
