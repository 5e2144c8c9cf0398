"""Outcomes, the terminal section and the run file, from the records that claims leave.

Does nothing, and imports nothing heavy, until a report carries a claim's record.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from claimlens.circuits.record import ClaimRecord


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of what is written after a run."""
    group = parser.getgroup("claims", "claimlens: findings about models as tests")
    group.addoption(
        "--claims-store",
        metavar="DIR",
        help="folder of the run files (default: .claimlens/runs in the root directory)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """One reporter per run: on the controller under xdist, not on its workers."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reporter(config), "claimlens-reporter")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The verdict becomes the outcome; a failed claim explains itself without a traceback."""
    report = yield
    record = _record(report)
    if record is None:
        return report
    from claimlens.ci.outcomes import explanation, outcome_of

    outcome = outcome_of(record)
    if outcome.outcome == "skipped":
        report.longrepr = (str(item.path), item.location[1] or 0, record.reason)
    elif outcome.outcome == "failed" and not (record.traceback and _has_traceback(report)):
        report.longrepr = explanation(record)
    elif outcome.outcome == "passed":
        report.longrepr = None
    report.outcome = outcome.outcome
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Each verdict has its own letter and its own total."""
    record = _record(report)
    if record is None:
        return None
    from claimlens.ci.outcomes import outcome_of

    outcome = outcome_of(record)
    return outcome.category, outcome.letter, outcome.word


def _has_traceback(report: pytest.TestReport) -> bool:
    """Whether pytest kept where it happened; of a `pytest.skip` in a body it keeps one line."""
    return not isinstance(report.longrepr, tuple)


def _record(report: pytest.TestReport) -> ClaimRecord | None:
    """The record of a finished claim; None for other tests and for the phases around it."""
    data = dict(getattr(report, "user_properties", ())).get("claim")
    if data is None or report.when == "teardown":
        return None
    from claimlens.circuits.record import ClaimRecord

    return ClaimRecord.from_json(data)


class Reporter:
    """Keeps and stores the records of a run as they come in."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.records: list[ClaimRecord] = []
        self.loads: dict[str, dict[str, int]] = {}
        self.file: Any = None
        self.fault = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Store a claim the moment it is finished."""
        record = _record(report)
        if record is None:
            return
        self.records.append(record)
        worker = str(getattr(report, "worker_id", "main"))
        self.loads[worker] = dict(report.user_properties).get("claim_loads", {})  # type: ignore[assignment]  # a property's value is an object
        self._store(record)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A run whose results could not be kept is no success."""
        if self.file is not None:
            self.file.close()
        if self.fault and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The claims, what was loaded, and where the results are."""
        if not self.records:
            return
        from claimlens.ci.terminal import write_claims, write_unmet

        write_unmet(terminalreporter)
        write_claims(terminalreporter, self.records)
        terminalreporter.write_line(f"models loaded: {self._loaded()}")
        if self.fault:
            terminalreporter.write_line(self.fault, red=True)
        else:
            terminalreporter.write_line(f"results: {self._shown_path()}")

    def _store(self, record: ClaimRecord) -> None:
        from claimlens.ci.store import RunFile

        if self.fault:
            return
        try:
            if self.file is None:
                self.file = RunFile.create(self._folder(), self._options())
            self.file.add(record)
        except OSError as error:
            self.fault = (
                f"results could not be stored in {self._folder()}: {error}; "
                "give a folder that can be written with --claims-store"
            )

    def _folder(self) -> Path:
        given = self.config.getoption("claims_store")
        return Path(given) if given else self.config.rootpath / ".claimlens" / "runs"

    def _options(self) -> dict[str, Any]:
        names = ("model", "device", "dtype", "seed", "results", "engine", "max_memory")
        return {f"claims_{n}": self.config.getoption(f"claims_{n}", None) for n in names}

    def _shown_path(self) -> str:
        path = Path(self.file.path)
        return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)

    def _loaded(self) -> str:
        shown = [
            f"{name} x{count}{f' ({worker})' if len(self.loads) > 1 else ''}"
            for worker, loads in sorted(self.loads.items())
            for name, count in loads.items()
        ]
        return ", ".join(shown) or "none"
