"""The run file: a header line, and one fsynced JSON line per finished claim."""

from __future__ import annotations

import json
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from claimlens.circuits.record import SCHEMA, ClaimRecord


@dataclass
class RunFile:
    """One run's results on disk; every line that was written survives a kill."""

    path: Path
    _stream: IO[str]

    @classmethod
    def create(cls, folder: Path, options: dict[str, Any]) -> RunFile:
        """Open `<utc>-<id>.jsonl` in `folder` and write its header; raises OSError."""
        _make(folder)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        path = folder / f"{stamp}-{secrets.token_hex(4)}.jsonl"
        run = cls(path, path.open("x", encoding="utf-8"))
        run._write(
            {
                "type": "run",
                "schema": SCHEMA,
                "id": path.stem,
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "platform": platform.platform(),
                "python": platform.python_version(),
                "options": options,
            }
        )
        return run

    def add(self, record: ClaimRecord) -> None:
        """Append one finished claim and sync it to disk."""
        self._write({"type": "claim", **record.to_json()})

    def close(self) -> None:
        """Close the file; nothing is pending."""
        self._stream.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._stream.write(json.dumps(line, allow_nan=False) + "\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())


def _make(folder: Path) -> None:
    """The folder, and where it is new a `.gitignore`: results are no part of a repository."""
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), (folder / ".gitignore").open("x", encoding="utf-8") as file:
            file.write("*\n")


def read_run(path: Path) -> tuple[dict[str, Any], list[ClaimRecord]]:
    """Header and records of a run file; raises ValueError at the first line that is not intact."""
    lines = _lines(path)
    _, header = next(lines, (1, {}))
    if header.get("type") != "run":
        raise ValueError(f"{path} is not a run file: its first line is no header")
    return header, [_record(path, number, line) for number, line in lines]


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of each line; a line ends with a newline and nothing else."""
    content = path.read_bytes()
    if not content:
        return
    for number, text in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):
        try:
            line = json.loads(text.decode("utf-8"), parse_constant=_refuse)
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is damaged: {error}") from error
        if not isinstance(line, dict):
            raise ValueError(f"{path}, line {number} is no JSON object")
        yield number, line


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number")


def _record(path: Path, number: int, line: dict[str, Any]) -> ClaimRecord:
    if line.get("type") != "claim":
        raise ValueError(
            f"{path}, line {number}: a line of type {line.get('type')!r}; expected 'claim'"
        )
    try:
        return ClaimRecord.from_json({k: v for k, v in line.items() if k != "type"})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}, line {number}: {error}") from error
