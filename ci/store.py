"""The run file: a header line, and one fsynced JSON line per finished claim.

Lines are only ever appended, each in one write: a killed process leaves at most one half line, the
last. `run_files.py` reads it, `recovery.py` mends what something else has damaged.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from claimlens.circuits.record import SCHEMA, ClaimRecord, PromptsRecord

STAMP = "%Y%m%dT%H%M%SZ"
LENGTH = len("20260131T235959Z")


class Busy(OSError):
    """Another process writes this run."""


@dataclass
class RunFile:
    """One run's results on disk; every line that was written survives a kill."""

    path: Path
    _descriptor: int
    _lock: FileLock
    _told: set[str] = field(default_factory=set)

    @classmethod
    def create(
        cls, folder: Path, options: dict[str, Any], arguments: Sequence[str] = ()
    ) -> RunFile:
        """Open `<utc>-<id>.jsonl` in `folder` and write its header; raises OSError.

        `arguments` are those of the command that runs, so that it can be told how to go on.
        """
        _make(folder)
        path = folder / f"{_stamp(folder)}-{secrets.token_hex(4)}.jsonl"
        run = cls._open(path, os.O_CREAT | os.O_EXCL)
        run._begin(
            {
                "type": "run",
                "schema": SCHEMA,
                "id": path.stem,
                "started": _now(),
                "platform": platform.platform(),
                "python": platform.python_version(),
                "options": options,
                "arguments": [*arguments],
            }
        )
        _sync_folder(folder)
        return run

    def _begin(self, header: dict[str, Any]) -> None:
        """The first line; a file that cannot have one is not left there."""
        try:
            self._write(header)
        except OSError:
            self.close()
            self.path.unlink()
            raise

    @classmethod
    def reopen(cls, path: Path, intact: int, told: set[str]) -> RunFile:
        """Go on writing behind the first `intact` bytes; `told` are the prompts it has.

        Raises Busy where another process is writing it, OSError.
        """
        run = cls._open(path, 0)
        os.truncate(run._descriptor, intact)
        run._told |= told
        run._write({"type": "resumed", "at": _now()})
        return run

    @classmethod
    def _open(cls, path: Path, flags: int) -> RunFile:
        lock = _lock(path)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | flags, 0o666)
        except OSError:
            lock.release()
            raise
        return cls(path, descriptor, lock)

    def add(self, record: ClaimRecord) -> None:
        """Append one finished claim and sync it to disk."""
        self._write({"type": "claim", **record.to_json()})

    def add_prompts(self, prompts: PromptsRecord) -> None:
        """Append the prompts that claims name by digest, once."""
        if prompts.digest not in self._told:
            self._write({"type": "prompts", **prompts.to_json()}, sync=False)
            self._told.add(prompts.digest)

    def finish(self, facts: dict[str, Any]) -> None:
        """Say that the run came to its end, and how."""
        self._write({"type": "end", "at": _now(), **facts})

    def close(self) -> None:
        """Close the file; nothing is pending."""
        os.close(self._descriptor)
        self._lock.release()

    def _write(self, line: dict[str, Any], sync: bool = True) -> None:
        """One whole line, or none: what a full disk cut short is taken back."""
        data = (json.dumps(line, allow_nan=False) + "\n").encode("ascii")
        before = os.fstat(self._descriptor).st_size
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            if sync:
                os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):
                os.truncate(self._descriptor, before)
            raise


def _make(folder: Path) -> None:
    """The folder, and where it is new a `.gitignore`: results are no part of a repository."""
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), (folder / ".gitignore").open("x", encoding="utf-8") as file:
            file.write("*\n")


def _lock(path: Path) -> FileLock:
    """Held while a run is written. Its file stays: to delete one could split those who wait."""
    locks = path.parent / ".locks"
    _make(locks)
    lock = FileLock(locks / f"{path.stem}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise Busy(f"{path.name} is being written by another process") from error
    return lock


def _stamp(folder: Path) -> str:
    """Now, or a second after the newest run: the `latest` is that, also if the clock went back."""
    now = datetime.now(UTC)
    for path in folder.glob("[0-9]*T*Z-*.jsonl"):
        with suppress(ValueError, OverflowError):  # a name that only looks like a run's
            begun = datetime.strptime(path.name[:LENGTH], STAMP).replace(tzinfo=UTC)
            now = max(now, begun + timedelta(seconds=1))
    return now.strftime(STAMP)


def _sync_folder(folder: Path) -> None:
    """A new file's name is on disk too; some file systems cannot be asked for that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
