"""pytest in a process of its own that need not import anything again, to be killed or starved.

A fork of this process, which has imported all that a claim needs: so hundreds of runs can be cut at
any moment of their measuring. Workers of xdist are started as they always are.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path

from claimlens.ci.gate_plugin import CI
from claimlens.ci.run_files import run_files
from claimlens.ci.selftests.processes import OWN_PLUGINS

STORE = "runs"
COMMON = ("--import-mode=importlib", "--strict-markers", "-p", "no:cacheprovider", "--tb=short")
PATIENCE = 600.0
CLAIM = b'"type": "claim"'


def import_all() -> None:
    """Import what a run imports, so that its fork does not."""
    import transformer_lens  # noqa: F401  # the largest of all
    import transformers  # noqa: F401  # the next

    from claimlens.fixtures import plugin, running  # noqa: F401  # what a claim runs on


@dataclass
class Forked:
    """A running pytest, and the folder that it runs in."""

    process: ForkProcess
    folder: Path
    reader: threading.Thread

    @classmethod
    def start(
        cls,
        folder: Path,
        *options: str,
        first: Callable[[], None] | None = None,
        env: dict[str, str] | None = None,
    ) -> Forked:
        """Run pytest in `folder`; `first` is called in its process before it begins."""
        places = (f"--rootdir={folder}", "-c", os.devnull, f"--claims-store={folder / STORE}")
        given = [*OWN_PLUGINS, *COMMON, *places, *options]
        fork = multiprocessing.get_context("fork")
        printed, prints = os.pipe()
        process = fork.Process(target=_run, args=(folder, given, first, env or {}, prints))
        process.start()
        os.close(prints)
        reader = threading.Thread(target=_keep, args=(printed, log_of(folder)))
        reader.start()
        return cls(process, folder, reader)

    def wait(self) -> int:
        """Its exit code; of one that a signal ended, the signal's number, negative."""
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.kill(signal.SIGKILL)
            self.process.join()
            raise TimeoutError(f"pytest in {self.folder} did not end in {PATIENCE:g} s")
        with suppress(ProcessLookupError):  # what is left of its workers
            os.killpg(self.pid, signal.SIGKILL)
        self.reader.join()
        return self.process.exitcode

    def kill(self, how: signal.Signals) -> None:
        """Send it a signal; one that has ended hears nothing."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, how)

    def wait_for(self, results: int) -> None:
        """Until it has stored so many results, or has ended."""
        while self.process.is_alive() and stored(self.folder) < results:
            time.sleep(0.002)

    @property
    def pid(self) -> int:
        """The process; its group has the same number."""
        pid = self.process.pid
        assert pid is not None
        return pid

    @property
    def output(self) -> str:
        """What it has printed; bytes that are no UTF-8 are lone surrogates."""
        return log_of(self.folder).read_bytes().decode("utf-8", errors="surrogateescape")


def run(folder: Path, *options: str, first: Callable[[], None] | None = None) -> tuple[int, str]:
    """Run pytest in `folder` to its end: its exit code and what it printed."""
    forked = Forked.start(folder, *options, first=first)
    return forked.wait(), forked.output


def stored(folder: Path) -> int:
    """How many results are in the store of a folder."""
    return sum(path.read_bytes().count(CLAIM) for path in run_files(folder / STORE))


def log_of(folder: Path) -> Path:
    """Where pytest prints to."""
    return folder / "pytest.log"


def _keep(printed: int, log: Path) -> None:
    """Write what a process prints to a file: by a pipe, so that its own disk may be full."""
    with os.fdopen(printed, "rb") as source, log.open("wb") as target:
        shutil.copyfileobj(source, target)


def _run(
    folder: Path,
    options: Sequence[str],
    first: Callable[[], None] | None,
    env: dict[str, str],
    prints: int,
) -> None:
    import pytest
    import torch
    from xdist import plugin as xdist  # type: ignore[import-untyped]  # it has no types

    # xdist's workers get what this list was when the process that was forked began
    xdist._sys_path[:] = sys.path
    torch.set_num_threads(1)  # the threads of the process that was forked are not there any more
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(prints, 1)
    os.dup2(prints, 2)
    # what captured the output of this process's parent is none of ours
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
    os.environ.update(dict.fromkeys(CI, ""), OMP_NUM_THREADS="1", COLUMNS="200")
    os.environ.update(env, PYTHONPATH=os.pathsep.join(os.path.abspath(p) for p in sys.path if p))
    os.chdir(folder)
    if first is not None:
        first()
    raise SystemExit(int(pytest.main([*options])))
