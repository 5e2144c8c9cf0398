"""What can be had of a damaged run file: every intact line, and a list of the others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from claimlens.ci.run_files import NoRun, StoredRun, lines_of, parsed
from claimlens.ci.whole_file import write_whole
from claimlens.circuits.record import SCHEMA


@dataclass(frozen=True)
class Recovered:
    """A file made of the intact lines of another, and what was wrong with the rest."""

    path: Path
    kept: int
    damage: tuple[str, ...]


def recover(path: Path) -> Recovered:
    """Write the intact lines of a run file to `<id>-recovered.jsonl` beside it.

    The damaged file stays as it is, and so does what an earlier recovery has become. Lines whose
    header is lost get one that says so; a run of which something is lost has not come to its end.
    Raises NoRun where the file cannot be read or holds no intact claim, OSError where nothing can
    be written.
    """
    run, kept, ends, damage = StoredRun(path), list[bytes](), list[bytes](), list[str]()
    for number, text in lines_of(path):
        try:
            line = parsed(text)
            _take(run, line, kept)
            (ends if line.get("type") == "end" else kept).append(text.rstrip(b"\n"))
        except ValueError as error:
            damage.append(f"line {number}: {error}")
    if not run.records:
        raise NoRun(f"{path} holds no intact claim; {len(damage)} lines are damaged")
    target = _free(path)
    whole = kept if damage else [*kept, *ends]
    write_whole(target, b"".join(line + b"\n" for line in whole))
    return Recovered(target, len(run.records), tuple(damage))


def _free(path: Path) -> Path:
    """A name beside the file that no other has: somebody may have gone on with an earlier one."""
    names = chain([""], (f"-{number}" for number in count(2)))
    paths = (path.with_name(f"{path.stem}-recovered{name}.jsonl") for name in names)
    return next(found for found in paths if not found.exists())


def _take(run: StoredRun, line: dict[str, Any], kept: list[bytes]) -> None:
    """Take a line; where the header was lost, put one in its place first."""
    if not run.header and line.get("type") != "run":
        lost = {"type": "run", "schema": SCHEMA, "id": run.id, "lost": "its header was damaged"}
        trial = StoredRun(run.path, header=lost)
        trial.take(line)
        run.take(lost)
        kept.append(json.dumps(lost).encode("ascii"))
    run.take(line)
