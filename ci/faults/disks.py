"""A disk that is full, or can no longer be written, from some moment of a run on."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from claimlens.ci.baseline import Baseline
from claimlens.ci.faults import suite
from claimlens.ci.faults.count import Count
from claimlens.ci.faults.forked import STORE, run
from claimlens.ci.run_files import run_files

TRACEBACK, SILENT, GREEN = "tracebacks", "runs that do not say it", "runs that count as a success"
LOST, HALF = "earlier results lost", "half baselines"
BASELINES, NEVER = "kept", 10**6
CREATE = ("--claims-baseline=create", "--claims-reason=x", f"--claims-baselines={BASELINES}")
BEFORE = 4
"""Results that are there when a run goes on with the disk that will fail."""
TRACE = "Traceback (most recent call last)"
TOLD = "results could not be stored in"
NOT_STARTED = "--claims-resume: "


def disks(folder: Path, points: int) -> Count:
    """Runs, each gone on with on a disk that fails at another moment; and baselines made on one."""
    count = Count(
        "disks",
        "a run gone on with while the disk is full (the kernel's file size limit) or read-only "
        "from some moment on, and a baseline written on a full disk",
    )
    count.must_not(TRACEBACK, SILENT, GREEN, LOST, HALF)
    model = suite.write_model(folder / "model")
    begun = _begun(suite.write(folder / "begun", model))
    (file,) = run_files(begun / STORE)
    sizes, part = _undisturbed(folder / "whole", begun), file.stat().st_size
    for number in track(range(points), "disks"):
        full = part + 1 + number * (sizes.run - part - 1) // points
        calls = number * sizes.calls // points
        for kind, fault in (("full", _Full(full)), ("read-only", _ReadOnly(calls))):
            place = folder / f"{kind}-{number}"
            shutil.copytree(begun, place)
            _go_on(count, place, file.read_bytes(), fault)
            shutil.rmtree(place)
        size = 1 + number * (sizes.baseline - 1) // points
        _make_baseline(count, folder / f"baseline-{number}", begun, size)
    return count


@dataclass(frozen=True)
class _Sizes:
    """Of what nothing disturbs: bytes of a run and of its baseline, and calls that write a run."""

    run: int
    baseline: int
    calls: int


def _begun(folder: Path) -> Path:
    """A suite whose first claims are measured."""
    run(folder, suite.MODEL, "-k", " or ".join(f"test_{n}" for n in range(BEFORE)))
    return folder


def _undisturbed(folder: Path, begun: Path) -> _Sizes:
    shutil.copytree(begun, folder)
    counted = folder / "calls.txt"
    run(folder, suite.MODEL, "--claims-resume=latest", first=_ReadOnly(NEVER, counted))
    (file,) = run_files(folder / STORE)
    run(folder, suite.MODEL, *CREATE)
    (baseline,) = (folder / BASELINES).iterdir()
    calls = NEVER - int(counted.read_text())
    return _Sizes(file.stat().st_size, baseline.stat().st_size, calls)


def _go_on(count: Count, folder: Path, before: bytes, fault: Callable[[], None]) -> None:
    code, output = run(folder, suite.MODEL, "--claims-resume=latest", first=fault)
    (file,) = run_files(folder / STORE)
    count.happened(LOST, int(not file.read_bytes().startswith(before)))
    judge(count, code, output)
    stored = suite.run_of(folder)
    if stored is None or len(stored.records) < BEFORE:
        count.happened(LOST)
    count.tried += 1


def judge(count: Count, code: int, output: str) -> None:
    """Count what a run on a failing disk must not say or be."""
    count.happened(TRACEBACK, output.count(TRACE))
    count.happened(SILENT, int(TOLD not in output and NOT_STARTED not in output))
    count.happened(GREEN, int(code == 0))


def _make_baseline(count: Count, folder: Path, begun: Path, size: int) -> None:
    """The baseline of a run, on a disk that is full when it is written."""
    shutil.copytree(begun, folder)
    code, output = run(folder, suite.MODEL, *CREATE, first=_FullForBaselines(size))
    count.happened(TRACEBACK, output.count(TRACE))
    count.happened(SILENT, int("File too large" not in output))
    count.happened(GREEN, int(code == 0))
    count.happened(HALF, sum(path.is_file() for path in (folder / BASELINES).rglob("*")))
    count.tried += 1
    shutil.rmtree(folder)


class _Full:
    """No file of this process may grow beyond so many bytes: the write that would is cut short."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


class _FullForBaselines(_Full):
    """As `_Full`, from the moment on at which a baseline is written."""

    def __call__(self) -> None:
        save = Baseline.save

        def saved(baseline: Baseline, path: Path) -> None:
            _Full.__call__(self)
            save(baseline, path)

        setattr(Baseline, "save", saved)  # noqa: B010  (mypy takes no assignment to a method)


class _ReadOnly:
    """After so many calls, whatever would change a file of a store fails as on a read-only disk."""

    def __init__(self, calls: int, note: Path | None = None) -> None:
        self.left, self.note = calls, note

    def __call__(self) -> None:
        for name in ("write", "fsync", "truncate", "ftruncate"):
            setattr(os, name, self._failing(getattr(os, name)))

    def _failing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(what: Any, *rest: Any) -> Any:
            if isinstance(what, int) and STORE in os.readlink(f"/proc/self/fd/{what}"):
                self.left -= 1
                if self.note:
                    self.note.write_text(str(self.left))
                if self.left < 0:
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return call(what, *rest)

        return wrapped
