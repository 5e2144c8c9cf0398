"""Reading run files: whole, cut by a kill, or damaged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claimlens.ci.collecting import nothing_collected
from claimlens.circuits.plain import refuse_constant
from claimlens.circuits.record import SCHEMA, ClaimRecord, PromptsRecord

LATEST = "latest"
_ID = re.compile(r"[0-9A-Za-z-]{1,100}")


class NoRun(ValueError):
    """There is no such run, or none that can be read; the message says what to do."""


@dataclass
class StoredRun:
    """All that a run file holds.

    `intact` is how many of its bytes are whole lines: a killed process leaves half a line behind
    them, which was of a claim that was not finished.
    """

    path: Path
    intact: int = 0
    header: dict[str, Any] = field(default_factory=dict)
    prompts: dict[str, PromptsRecord] = field(default_factory=dict)
    records: list[ClaimRecord] = field(default_factory=list)
    end: dict[str, Any] | None = None
    resumed: int = 0

    @property
    def id(self) -> str:
        """The name of the run."""
        return self.path.stem

    @property
    def models(self) -> list[str]:
        """The models that it has results of, in order."""
        return list(dict.fromkeys(r.model_name for r in self.records))

    def take(self, line: dict[str, Any]) -> None:
        """Take in one more line; raises ValueError for one of no known kind."""
        kind, rest = line.get("type"), {k: v for k, v in line.items() if k != "type"}
        if not self.header:
            if kind != "run":
                raise ValueError("the first line is no header")
            if rest.get("schema") != SCHEMA:
                raise ValueError(f"a run of schema {rest.get('schema')!r}; expected {SCHEMA}")
            if not isinstance(rest.get("options", {}), dict):
                raise ValueError("its options are no JSON object")
            self.header = line
        elif kind == "claim":
            self.records.append(ClaimRecord.from_json(rest))
        elif kind == "prompts":
            prompts = PromptsRecord.from_json(rest)
            self.prompts[prompts.digest] = prompts
        elif kind == "end":
            self.end = line
        elif kind == "resumed":
            self.end, self.resumed = None, self.resumed + 1
        else:
            raise ValueError(f"a line of type {kind!r}")


def read_run(path: Path) -> StoredRun:
    """A run file. Raises NoRun where it is none, or where a line before the last is damaged."""
    run = StoredRun(path)
    with nothing_collected():
        for number, text in lines_of(path):
            if not text.endswith(b"\n"):
                break
            run.intact += len(text)
            try:
                run.take(parsed(text))
            except ValueError as error:
                raise NoRun(_damaged(path, number, error)) from error
    if not run.header:
        raise NoRun(f"{path} is no run file: it has no whole line")
    return run


def _damaged(path: Path, number: int, error: ValueError) -> str:
    what = f"{path}, line {number} is damaged: {error}"
    if number == 1:
        what = f"{path} is no run file, or its header is damaged: {error}"
    return f"{what}. `claimlens recover {path}` keeps every line that is intact"


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line, with its newline; raises NoRun where there is no file."""
    try:
        with path.open("rb") as file:
            yield from enumerate(file, 1)
    except OSError as error:
        raise NoRun(f"{path} cannot be read: {error.strerror or error}") from error


def parsed(text: bytes) -> dict[str, Any]:
    """The JSON object of a line; raises ValueError."""
    try:
        line = json.loads(text.decode("utf-8"), parse_constant=refuse_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(line, dict):
        raise ValueError("it is no JSON object")
    return line


def run_files(folder: Path) -> list[Path]:
    """The run files of a store, oldest first; what was recovered of one stands behind it."""
    found = (path for path in folder.glob("*.jsonl") if _ID.fullmatch(path.stem))
    return sorted(found, key=lambda path: path.stem)


def has_begun(path: Path) -> bool:
    """Whether a run file has a whole line: a run that was killed at once leaves one without."""
    return any(text.endswith(b"\n") for _, text in lines_of(path))


def find_run(folder: Path, name: str) -> Path:
    """The run file that a name means: an id, an unambiguous beginning or end of one, or `latest`.

    Raises NoRun.
    """
    known = run_files(folder)
    if not known:
        raise NoRun(f"no runs in {folder}")
    if name == LATEST:
        return next(filter(has_begun, reversed(known)), known[-1])
    if not _ID.fullmatch(name):
        raise NoRun(f"{name[:60]!r} is no run id; expected letters, digits and dashes")
    found = [p for p in known if p.stem == name] or [
        p for p in known if p.stem.startswith(name) or p.stem.endswith(name)
    ]
    if len(found) != 1:
        told = ", ".join(p.stem for p in (found or known)[-5:])
        raise NoRun(f"{len(found) or 'no'} runs are called {name!r}; such as {told}")
    return found[0]
