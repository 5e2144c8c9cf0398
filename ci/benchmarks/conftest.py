"""The options and fixtures of `ci/bench`, and the table at its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claimlens.ci.benchmarks.harness import Measure, measure, quicker, with_peak
from claimlens.ci.benchmarks.machine import machine
from claimlens.ci.benchmarks.result import Result
from claimlens.ci.benchmarks.rows import Row, read_rows
from claimlens.ci.benchmarks.subject import Size, Subject, make
from claimlens.ci.benchmarks.sweep import Build, Pending
from claimlens.ci.benchmarks.table import Report, save, write_page
from claimlens.ci.benchmarks.timing import Repeat, Step

RESULTS = pytest.StashKey[list[Result]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `ci/bench` takes."""
    group = parser.getgroup("claimlens benchmarks")
    group.addoption("--rows", default="", help="the rows to measure, as a,b; all without it")
    group.addoption("--quick", action="store_true", help="fewer rounds, and no peak memory")
    group.addoption("--json", type=Path, help="write the results to this file")
    group.addoption("--device", default="cpu", help="cpu or cuda")
    group.addoption("--write-docs", action="store_true", help="write the table into docs/speed.md")
    group.addoption("--without-nnsight", action="store_true", help="measure without that peer")


def pytest_configure(config: pytest.Config) -> None:
    """Results are gathered over the run."""
    config.stash[RESULTS] = []


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
    """Print the table; write it where that was asked for."""
    results = config.stash[RESULTS]
    if not results:
        return
    report = Report(machine(config.getoption("--device")), results)
    terminalreporter.write(report.shown())
    if file := config.getoption("--json"):
        save(report.to_json(), file)
    if config.getoption("--write-docs"):
        write_page(report.markdown())


@pytest.fixture(scope="session")
def subject(pytestconfig: pytest.Config) -> Callable[[Size], Subject]:
    """The model of a row: one for all rows, with other prompts."""
    made: list[Subject] = []

    def of(size: Size) -> Subject:
        if not made:
            made.append(make(size, pytestconfig.getoption("--device")))
        return made[0].of(size)

    return of


@pytest.fixture
def repeat(benchmark: Any) -> Repeat:
    """pytest-benchmark's rounds of our sweep, those of the peers between them as its set-up."""

    def rounds(target: Step, before: Step, number: int) -> None:
        benchmark.pedantic(target, setup=lambda: before() and None, rounds=number)

    return rounds


@pytest.fixture
def measured(
    pytestconfig: pytest.Config, subject: Callable[[Size], Subject], repeat: Repeat
) -> Measure:
    """`measured(row, build)`: a row of the table, red where it misses what it must reach."""

    def run(name: str, build: Build) -> None:
        row, quick = read_rows()[name], pytestconfig.getoption("--quick")
        result = _measured(quicker(row) if quick else row, build, subject, repeat)
        if not quick:
            result = with_peak(result, pytestconfig.getoption("--device"))
        pytestconfig.stash[RESULTS].append(result)
        if missed := list(result.missed()):
            pytest.fail("; ".join(missed), pytrace=False)

    return run


def _measured(row: Row, build: Build, subject: Callable[[Size], Subject], repeat: Repeat) -> Result:
    try:
        return measure(row, build, subject(row.size), repeat)
    except Pending as why:
        pytest.skip(str(why))


def _row(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return "" if callspec is None else str(callspec.params.get("row", ""))
