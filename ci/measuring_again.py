"""A pytest of its own for what the gate needs and does not have: another model, other roles."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from claimlens.ci.run_files import NoRun, StoredRun, read_run, run_files

OURS = ("--claims-model", "--claims-gate", "--claims-gate-old", "--claims-store", "--claims-resume")
INTENTS = ("--claims-baseline", "--claims-reason", "--claims-accept", "--claims-baselines")
NOT_AGAIN = (
    *OURS,
    *INTENTS,
    "--maxfail",
    "-n",
    "--numprocesses",
    "--junitxml",
    "--junit-xml",
    "--dist",
)
"""Options of this run, each with a value, that the other must not have."""
FLAGS = (
    "-x",
    "--exitfirst",
    "--lf",
    "--last-failed",
    "--ff",
    "--failed-first",
    "--sw",
    "--stepwise",
)
"""And flags that would make it stop early."""


class NotAgain(RuntimeError):
    """The other run gave no results; the message says why."""


@dataclass(frozen=True)
class Again:
    """This command, on another model; its results go to `store` like those of any run."""

    arguments: tuple[str, ...]
    folder: Path
    store: Path

    @classmethod
    def of(cls, config: pytest.Config, store: Path) -> Again:
        """The command of this run."""
        given = [str(argument) for argument in config.invocation_params.args]
        return cls(tuple(without(given, NOT_AGAIN)), Path(config.invocation_params.dir), store)

    def measure(self, model: str, nodes: Sequence[str] = ()) -> StoredRun:
        """Measure all claims of this command on a model, or some tests. Raises NotAgain."""
        with tempfile.TemporaryDirectory(dir=self.store) as folder:
            command = [sys.executable, "-m", "pytest", *self.arguments, "-q"]
            command += ["--claims-model", model, "--claims-store", folder]
            if nodes:
                command += ["-k", " or ".join(nodes)]
            done = subprocess.run(
                command, cwd=self.folder, env=_quiet(), capture_output=True, text=True, check=False
            )
            found = run_files(Path(folder))
            if not found:
                last = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no output"]
                raise NotAgain(f"measuring {model} gave no result: {last[0]}")
            path = found[0].rename(self.store / found[0].name)
        try:
            return read_run(path)
        except NoRun as error:
            raise NotAgain(str(error)) from error


def _quiet() -> dict[str, str]:
    """This environment, in which the other run has nobody to tell: that is for this one to do."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}


def without(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """Arguments without these options and their values, `--x value` or `--x=value`."""
    kept, skip = list[str](), False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in options:
            skip = True
        elif argument.partition("=")[0] not in (*options, *FLAGS) and argument[:2] != "-n":
            kept.append(argument)
    return kept
