"""The records of a run as they come in: kept, and told at the end."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from claimlens.ci.gate_plugin import Followed
    from claimlens.ci.keeper import Keeper
    from claimlens.circuits.record import ClaimRecord

RECORD = "claim_record"
"""The attribute of a report under which its record is found."""

WORKER_DIED = "???"
"""What xdist says was going on in a test that its worker did not survive."""


def record_of(report: pytest.TestReport) -> ClaimRecord | None:
    """The record of a finished claim; None for other tests and for the phases around it."""
    known: ClaimRecord | None = getattr(report, RECORD, None)
    data = _properties(report).get("claim")
    if known is not None or data is None or report.when == "teardown":
        return known
    from claimlens.circuits.record import ClaimRecord

    return ClaimRecord.from_json(data)


class Reporter:
    """One for each run: on the controller under xdist, not on its workers."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.loads: dict[str, dict[str, int]] = {}
        self.kept = False
        self.lost: list[str] = []
        self.followed: Followed | None = None

    @cached_property
    def keeper(self) -> Keeper:
        """What stores the records; made when the first one comes."""
        from claimlens.ci.keeper import Keeper

        self.kept = True
        return Keeper(self.config)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Store a claim the moment it is finished; of its record, JUnit keeps the verdict."""
        record, properties = record_of(report), _properties(report)
        if record is not None:
            worker = str(getattr(report, "worker_id", "main"))
            self.loads[worker] = properties.get("claim_loads", {})
            setattr(report, RECORD, record)
            self.keeper.keep(record, properties.get("claim_prompts", []))
        if report.when == WORKER_DIED:
            self.lost.append(report.nodeid)
        if "claim" in properties:
            report.user_properties = _for_junit(properties)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """What was kept, and what could not be, decides with the tests' outcomes."""
        if not self.kept:
            return
        session.exitstatus = self.keeper.finish(session.exitstatus)
        from claimlens.ci.gate_plugin import follow

        found = {record.nodeid for record in self.keeper.records}
        lost = [nodeid for nodeid in self.lost if nodeid not in found]
        self.followed = follow(session, self.keeper, lost)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The claims, what was loaded, and where the results are."""
        if not self.kept or not self.keeper.records:
            return
        from claimlens.ci.terminal import write_claims, write_unmet

        write_unmet(terminalreporter)
        write_claims(terminalreporter, self.keeper.records)
        terminalreporter.write_line(f"models loaded: {self._loaded()}")
        terminalreporter.write_line(self.keeper.told, red=bool(self.keeper.fault))
        self._write_report(terminalreporter)
        if self.followed is not None:
            self._write_followed(terminalreporter, self.followed)

    def _write_report(self, terminal: pytest.TerminalReporter) -> None:
        """The pages of the whole store, where they are asked for."""
        given = self.config.getoption("claims_report")
        if given is None:
            return
        from claimlens.ci.gate_plugin import folder_of
        from claimlens.ci.keeper import store_of
        from claimlens.ci.report.make import make_report
        from claimlens.ci.run_files import run_files

        files = run_files(store_of(self.config))
        try:
            made = make_report(files, Path(given), folder_of(self.config))
        except OSError as error:
            terminal.write_line(f"the report could not be written: {error}", red=True)
        else:
            terminal.write_line(made.told)

    def _write_followed(self, terminal: pytest.TerminalReporter, followed: Followed) -> None:
        from claimlens.ci import github

        for line in followed.lines:
            terminal.write_line(line)
        if not github.is_here():
            return
        for line in github.commands(self.keeper.records, followed.results):
            terminal.write_line(line)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            try:
                github.write_summary(Path(summary), self.keeper.records, followed.results)
            except OSError as error:
                terminal.write_line(f"the step's summary could not be written: {error}", red=True)

    def _loaded(self) -> str:
        shown = [
            f"{name} x{count}{f' ({worker})' if len(self.loads) > 1 else ''}"
            for worker, loads in sorted(self.loads.items())
            for name, count in loads.items()
        ]
        return ", ".join(shown) or "none"


def _properties(report: pytest.TestReport) -> dict[str, Any]:
    return dict(getattr(report, "user_properties", ()))


def _for_junit(properties: dict[str, Any]) -> list[tuple[str, object]]:
    """The record as a few short properties: the run file holds the rest."""
    record = properties["claim"]
    told = [(f"claim_{name}", str(record[name])) for name in ("claim", "verdict", "reason")]
    others = [(k, v) for k, v in properties.items() if not k.startswith("claim")]
    return [*others, *told]
