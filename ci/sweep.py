"""Many models or revisions, each in a process of its own: a run file a model, and nothing shared.

A model is a unit of work: its name in, one run file out, in a folder of its own, whose name changes
with whatever the result depends on. One that is finished is not run again, one that was cut goes on
where it was: so does a sweep that is killed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from claimlens.ci.run_files import LATEST, NoRun, StoredRun, read_run, run_files
from claimlens.ci.sweep_key import key_of

Say = Callable[[str], None]
MODEL = "--claims-model"
MEASURED = (0, 1)
"""Exit codes of a pytest that came to its end: green, or with red claims."""


class BadSweep(ValueError):
    """A list of models that cannot be swept; the message says what to do."""


@dataclass(frozen=True)
class Unit:
    """One model of a sweep: its name, and the folder of its run."""

    model: str
    folder: Path

    @classmethod
    def of(cls, model: str, store: Path, arguments: Sequence[str] = ()) -> Unit:
        """The unit of a model under these arguments: the same folder while nothing else is meant.

        Raises OSError where a claim or a model's directory cannot be read.
        """
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip("-.")[:60]
        return cls(model, store / f"{plain}-{key_of(model, arguments)[:12]}")

    def stored(self) -> StoredRun | None:
        """Its run, whole or cut; None where there is none. Raises NoRun for a damaged one."""
        files = run_files(self.folder)
        return read_run(files[-1]) if files else None

    def finished(self) -> bool:
        """Whether its run came to its end with all that it was to measure."""
        run = self.stored()
        return run is not None and run.end is not None and run.end.get("exit") in MEASURED

    def measure(self, arguments: Sequence[str], log: Path) -> int:
        """Run it, or go on with it; pytest's exit code. What it prints goes to `log`."""
        command = [sys.executable, "-m", "pytest", *arguments, MODEL, self.model]
        command += ["--claims-store", str(self.folder)]
        if self.stored() is not None:
            command += ["--claims-resume", LATEST]
        self.folder.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, check=False
            ).returncode


@dataclass(frozen=True)
class Sweep:
    """The units of a sweep, what pytest is given for each, and how many run at once."""

    units: Sequence[Unit]
    arguments: Sequence[str]
    jobs: int = 1

    def run(self, say: Say) -> list[Unit]:
        """Run what is not finished; the units that still are not."""
        left = [unit for unit in self.units if not unit.finished()]
        if done := len(self.units) - len(left):
            say(f"{done} of {len(self.units)} models are finished already")
        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(lambda unit: self._one(unit, say), left))
        return [unit for unit in left if not unit.finished()]

    def _one(self, unit: Unit, say: Say) -> None:
        log = unit.folder / "pytest.log"
        code = unit.measure(self.arguments, log)
        told = "" if code in MEASURED else f"; see {log}"
        say(f"{unit.model}: pytest ended with {code}{told}")

    def runs(self) -> Iterator[StoredRun]:
        """The runs of its models, in order, as far as there are any."""
        for unit in self.units:
            run = unit.stored()
            if run is not None:
                yield run


def read_models(path: Path) -> list[str]:
    """One name a line; what follows a # is a remark. Raises BadSweep."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSweep(f"{path} cannot be read: {error}") from error
    names = [name for line in lines if (name := line.partition("#")[0].strip())]
    if not names:
        raise BadSweep(f"{path} names no model; give one a line, as gpt2 or org/name@revision")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise BadSweep(f"{path} names {twice[0]} twice; take one of the lines out")
    if bad := [name for name in names if not name.isprintable() or any(c.isspace() for c in name)]:
        raise BadSweep(f"{path}: {bad[0]!r} is no model name; give one a line, without blanks")
    return names


def check_runs(units: Sequence[Unit]) -> None:
    """Raise NoRun where a run of a sweep is damaged."""
    for unit in units:
        try:
            unit.stored()
        except NoRun as error:
            raise NoRun(f"{unit.model}: {error}") from error
