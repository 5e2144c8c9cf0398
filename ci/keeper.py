"""Results on their way to the disk: a new run file, or one to go on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from claimlens.ci.outcomes import failed
from claimlens.ci.resume import Changed, Resumed
from claimlens.ci.run_files import NoRun, find_run, read_run
from claimlens.ci.store import RunFile
from claimlens.circuits.record import ClaimRecord, PromptsRecord

OK, FAILED = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED
NOTHING_LEFT = pytest.ExitCode.NO_TESTS_COLLECTED
OPTIONS = ("model", "device", "dtype", "seed", "text", "results", "engine", "max_memory")


class Keeper:
    """Stores the records of a run; what went wrong with that is its `fault`."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.records: list[ClaimRecord] = []
        self.prompts: dict[str, PromptsRecord] = {}
        self.file: RunFile | None = None
        self.path = Path()
        self.fault = ""
        self.resumed: Resumed | None = None

    def keep(self, record: ClaimRecord, prompts: Sequence[dict[str, Any]]) -> None:
        """Store one finished claim, and the prompts that it is the first to name."""
        if self.resumed is not None and not self.fault:
            try:
                self.resumed.check(record)
            except Changed as error:
                self._stop(str(error))
        self.records.append(record)
        fresh = [PromptsRecord.from_json(each) for each in prompts]
        self.prompts |= {each.digest: each for each in fresh}
        if not self.fault:
            self._store(record, fresh)

    def resume(self, name: str) -> dict[str, str]:
        """Go on with a run: the digest of the source of each claim that it has, by node id.

        Raises UsageError where there is no such run, or not with these options.
        """
        try:
            run = read_run(find_run(store_of(self.config), name))
            self.resumed = Resumed(run)
            self.resumed.check_options(options_of(self.config))
            self.file = RunFile.reopen(run.path, run.intact, set(run.prompts))
        except (NoRun, Changed, OSError) as error:
            raise pytest.UsageError(f"--claims-resume: {error}") from error
        self.path, self.records, self.prompts = run.path, list(run.records), dict(run.prompts)
        return self.resumed.done

    def finish(self, status: int | pytest.ExitCode) -> int | pytest.ExitCode:
        """Say in the file that the run came to its end; the exit status that this gives it.

        A run whose results could not be kept is no success, nor is the rest of one that failed.
        """
        if self.resumed is not None and status in (OK, NOTHING_LEFT):
            status = FAILED if any(map(failed, self.records)) else OK
        try:
            if self.file is not None and not self.fault:
                self.file.finish({"exit": int(status), "claims": len(self.records)})
        except OSError as error:
            self.fault = self._unwritten(error)
        if self.file is not None:
            self.file.close()
            self.file = None
        return FAILED if self.fault and status == OK else status

    @property
    def told(self) -> str:
        """Where the results are, or why they are nowhere."""
        return self.fault or f"results: {_short(self.path)}"

    def _store(self, record: ClaimRecord, prompts: Sequence[PromptsRecord]) -> None:
        try:
            if self.file is None:
                arguments = self.config.invocation_params.args
                options = options_of(self.config)
                self.file = RunFile.create(store_of(self.config), options, [*map(str, arguments)])
            self.path = self.file.path
            for each in prompts:
                self.file.add_prompts(each)
            self.file.add(record)
        except OSError as error:
            self.fault = self._unwritten(error)

    def _unwritten(self, error: OSError) -> str:
        kept = f"; what was finished before is in {_short(self.path)}" if self.file else ""
        return (
            f"results could not be stored in {store_of(self.config)}: {error}{kept}; "
            "give a folder that can be written with --claims-store"
        )

    def _stop(self, why: str) -> None:
        """End the run: what comes now belongs to no run that there is."""
        self.fault = why
        session: Any = self.config.pluginmanager.get_plugin("session")
        session.shouldfail = why


def store_of(config: pytest.Config) -> Path:
    """The folder of the run files."""
    given = config.getoption("claims_store")
    return Path(given) if given else config.rootpath / ".claimlens" / "runs"


def options_of(config: pytest.Config) -> dict[str, Any]:
    """What the command says of how to measure."""
    return {f"claims_{n}": config.getoption(f"claims_{n}", None) for n in OPTIONS}


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
