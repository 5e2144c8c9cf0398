"""pytest in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from claimlens.ci.gate_plugin import CI

ROOT = Path(__file__).parents[2]
OUTSIDE_CI = dict.fromkeys(CI, "")
"""An environment in which nothing says that this is a CI, wherever the self-tests run."""
OWN_PLUGINS = ("-p", "claimlens.fixtures.plugin", "-p", "claimlens.ci.plugin")


@dataclass(frozen=True)
class Finished:
    """A finished process: its exit code, and stdout and stderr together."""

    code: int
    output: str


class RunClaims(Protocol):
    """Run pytest on files in an empty folder; see the fixture `run_claims`."""

    def __call__(
        self, files: Mapping[str, str], *options: str, site: Path | None = None
    ) -> Finished:
        """Write `files` (name to text), run pytest there with `options`."""


def run_pytest(folder: Path, *options: str, path: list[Path], **env: str) -> Finished:
    """Run pytest in `folder` with `path` as PYTHONPATH."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            **env,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return Finished(done.returncode, done.stdout)
