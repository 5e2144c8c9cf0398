"""Run files and baselines that something has damaged."""

from __future__ import annotations

import json
import random
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from rich.progress import track

from claimlens.ci import cli
from claimlens.ci.baseline import BadBaseline, Baseline, accepted, baseline_path
from claimlens.ci.faults.count import Count
from claimlens.ci.run_files import NoRun, parsed, read_run
from claimlens.ci.selftests.records import record
from claimlens.ci.store import RunFile
from claimlens.circuits.record import ClaimRecord, PromptsRecord

TRACEBACKS, LOST, CHANGED = "tracebacks", "intact lines lost", "damaged files changed"
BROKEN = (
    ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What reading a damaged file would end with, were it not expected; anything else ends all."""
CLAIMS = 12
Damage = Callable[[bytes, random.Random], bytes]


def mutations(folder: Path, times: int, seed: int = 0) -> Count:
    """Damage `times` files, every second one a baseline, and let everything read them."""
    count = Count(
        "mutations",
        "a run file or a baseline damaged (bits, bytes, lines, values, conflict markers, rubbish), "
        "then listed, read and recovered",
    )
    count.must_not(TRACEBACKS, LOST, CHANGED)
    folder.mkdir(parents=True)
    whole, baseline = _run(folder / "whole"), _baseline(folder / "baselines")
    chance, read = random.Random(seed), {"run": 0, "baseline": 0}
    for number in track(range(times), "mutations"):
        kind, source = ("baseline", baseline) if number % 2 else ("run", whole)
        content = damaged(source, chance)
        try:
            tried = _baseline_is_read if number % 2 else _run_is_read
            read[kind] += tried(count, folder / "tried", content, whole)
        except BROKEN:
            count.happened(TRACEBACKS)
            count.facts["the last traceback"] = traceback.format_exc(limit=-2)[-300:]
        count.tried += 1
    count.facts |= {f"{kind} files read all the same": str(n) for kind, n in read.items()}
    return count


def damaged(content: bytes, chance: random.Random) -> bytes:
    """One to three kinds of damage."""
    for _ in range(chance.randint(1, 3)):
        content = chance.choice(DAMAGE)(content, chance)
    return content


def _run_is_read(count: Count, folder: Path, content: bytes, whole: bytes) -> bool:
    """Read, list and recover a damaged run; whether it could be read as it is."""
    folder.mkdir(exist_ok=True)
    path = folder / "20260101T000000Z-00ff00ff.jsonl"
    recovered = path.with_name(f"{path.stem}-recovered.jsonl")
    recovered.unlink(missing_ok=True)
    path.write_bytes(content)
    _command("runs", "--store", str(folder))
    _command("recover", str(path))
    count.happened(CHANGED, int(path.read_bytes() != content))
    count.happened(LOST, lost(content, whole, recovered))
    try:
        read_run(path)
    except NoRun:
        return False
    return True


def lost(content: bytes, whole: bytes, recovered: Path) -> int:
    """How many lines of the whole file are still in the damaged one and not in the recovered."""
    claims = {line for line in whole.splitlines() if b'"type": "claim"' in line}
    intact = claims & set(content.split(b"\n"))
    kept = set(recovered.read_bytes().split(b"\n")) if recovered.exists() else set()
    return len(intact - kept)


def _baseline_is_read(count: Count, folder: Path, content: bytes, whole: bytes) -> bool:
    folder.mkdir(exist_ok=True)
    path = baseline_path(folder, "default")
    path.write_bytes(content)
    try:
        Baseline.of(folder, "default")
    except BadBaseline:
        return False
    finally:
        count.happened(CHANGED, int(path.read_bytes() != content))
    return True


def _command(*arguments: str) -> None:
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        cli.main(arguments)


def _records() -> list[ClaimRecord]:
    return [record(claim=f"damaged/{n}", reason="why " * n, seed=n) for n in range(CLAIMS)]


def _run(folder: Path) -> bytes:
    run = RunFile.create(folder, {"claims_seed": 0})
    run.add_prompts(PromptsRecord("00ff", ["ioi-0", "ioi-1"], ["a", "b"], ["When", "Then"]))
    for each in _records():
        run.add(each)
    run.finish({"exit": 0, "claims": CLAIMS})
    run.close()
    return run.path.read_bytes()


def _baseline(folder: Path) -> bytes:
    claims = {each.key: accepted(each, "2026-01-01", "shipped") for each in _records()}
    path = baseline_path(folder, "default")
    Baseline("default", "sha256:00", "run", {"seed": 0}, ["claims"], claims).save(path)
    return path.read_bytes()


# --- the damage


def _flip(content: bytes, chance: random.Random) -> bytes:
    if not content:
        return content
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _drop(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    return content[:start] + content[start + chance.randrange(1, 200) :]


def _insert(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + chance.randbytes(chance.randrange(1, 40)) + content[at:]


def _rubbish(content: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(2000))


def _zeros(content: bytes, chance: random.Random) -> bytes:
    """What a file system that lost power leaves."""
    at = chance.randrange(len(content) + 1)
    return content[:at] + bytes(len(content) - at)


def _lines(change: Callable[[list[bytes], random.Random], Any]) -> Damage:
    def damage(content: bytes, chance: random.Random) -> bytes:
        lines = content.splitlines(keepends=True)
        if lines:
            change(lines, chance)
        return b"".join(lines)

    return damage


def _twice(lines: list[bytes], chance: random.Random) -> None:
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))


def _gone(lines: list[bytes], chance: random.Random) -> None:
    lines.pop(chance.randrange(len(lines)))


def _shuffled(lines: list[bytes], chance: random.Random) -> None:
    chance.shuffle(lines)


def _conflict(lines: list[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(lines) + 1)
    lines[at:at] = [b"<<<<<<< ours\n", b"=======\n", b">>>>>>> theirs\n"]


def _odd(lines: list[bytes], chance: random.Random) -> None:
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(ODD) + b"\n")


def _value(lines: list[bytes], chance: random.Random) -> None:
    """Another value under some key of a line that is JSON."""
    at = chance.randrange(len(lines))
    try:
        line = parsed(lines[at])
    except ValueError:
        return
    if line:
        line[chance.choice(sorted(line))] = chance.choice(VALUES)
        lines[at] = json.dumps(line).encode() + b"\n"


ODD: Sequence[bytes] = (
    b"", b"null", b"[]", b"{}", b'""', b"NaN", b"[" * 50_000, b'{"a":' * 50_000, b"\xff\xfe",
    b'{"type": "claim"}', b'{"type": "run"}', b'{"type": ["run"]}', b'{"type": "end"}', b"1e999",
    b'{"type": "prompts", "digest": 1}', b"9" * 5_000, b'{"type": "claim", "schema": 1e400}',
)  # fmt: skip
VALUES: Sequence[Any] = (
    None, True, -1, 0.5, float("nan"), float("inf"), 10**400, "", "\ud83d", [], [[]], {}, {"a": {}},
)  # fmt: skip
DAMAGE: Sequence[Damage] = (
    _flip, _cut, _drop, _insert, _rubbish, _zeros, _lines(_twice), _lines(_gone),
    _lines(_conflict), _lines(_odd), _lines(_value), _lines(_shuffled),
)  # fmt: skip
