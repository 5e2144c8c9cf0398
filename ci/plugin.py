"""Outcomes, the terminal section and the run file, from the records that claims leave.

Does nothing, and imports nothing heavy, until a report carries a claim's record.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from claimlens.ci.reporter import Reporter, record_of

pytest_plugins = ("claimlens.ci.gate_plugin",)

DONE: pytest.StashKey[dict[str, str]] = pytest.StashKey()
"""What a resumed run has already: the digest of each finished claim's source, by node id."""
DONE_INPUT = "claims_done"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of what is written after a run."""
    group = parser.getgroup("claims", "claimlens: findings about models as tests")
    group.addoption(
        "--claims-store",
        metavar="DIR",
        help="folder of the run files (default: .claimlens/runs in the root directory)",
    )
    group.addoption(
        "--claims-resume",
        metavar="ID",
        help="go on with a run that was cut: its id, or `latest`; give the other options again",
    )
    group.addoption(
        "--claims-report",
        metavar="DIR",
        help="write the findings of all runs in the store as pages to be read from disk",
    )


def pytest_configure(config: pytest.Config) -> None:
    """One reporter per run: on the controller under xdist, not on its workers."""
    if hasattr(config, "workerinput"):
        config.stash[DONE] = config.workerinput.get(DONE_INPUT, {})
        return
    reporter = Reporter(config)
    config.pluginmanager.register(reporter, "claimlens-reporter")
    if name := config.getoption("claims_resume"):
        config.stash[DONE] = reporter.keeper.resume(name)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist what a resumed run has: all of them, and always the same."""
    node.workerinput[DONE_INPUT] = node.config.stash.get(DONE, {})


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a resumed run has measured."""
    if done := config.stash.get(DONE, {}):
        from claimlens.ci.resume import Changed, missing

        try:
            items[:], finished = missing(items, done)
        except Changed as error:
            raise pytest.UsageError(f"--claims-resume: {error}") from error
        config.hook.pytest_deselected(items=finished)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The verdict becomes the outcome; a failed claim explains itself without a traceback."""
    report = yield
    record = record_of(report)
    if record is None:
        return report
    from claimlens.ci.outcomes import explanation, outcome_of
    from claimlens.ci.plain_text import shown

    outcome = outcome_of(record)
    report.sections = [(name, shown(text)) for name, text in report.sections]
    if outcome.outcome == "skipped":
        report.longrepr = (str(item.path), item.location[1] or 0, record.reason)
    elif outcome.outcome == "failed":
        traced = record.traceback and _has_traceback(report)
        report.longrepr = shown(str(report.longrepr)) if traced else explanation(record)
    elif outcome.outcome == "passed":
        report.longrepr = None
    report.outcome = outcome.outcome
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Each verdict has its own letter and its own total."""
    record = record_of(report)
    if record is None:
        return None
    from claimlens.ci.outcomes import outcome_of

    outcome = outcome_of(record)
    return outcome.category, outcome.letter, outcome.word


def _has_traceback(report: pytest.TestReport) -> bool:
    """Whether pytest kept where it happened; of a `pytest.skip` in a body it keeps one line."""
    return not isinstance(report.longrepr, tuple)
