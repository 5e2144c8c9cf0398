"""Baselines that cannot be read, and changes to them that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from claimlens.ci.baseline import Baseline, baseline_path
from claimlens.ci.intents import Intent, Run, changed
from claimlens.ci.selftests.errors.entry import Entry

_BEFORE = Baseline("gpt2", "", "r1", {}, ["claims"], {})
_WHY = "the first verdicts"


def _file(text: str) -> Callable[[Path], object]:
    def made(folder: Path) -> object:
        path = folder / "gpt2.json"
        path.write_text(text, encoding="utf-8")
        return Baseline.load(path)

    return made


def _other(folder: Path) -> object:
    _BEFORE.save(baseline_path(folder, "org/name"))
    return Baseline.of(folder, "org/name")


def _run(partial: str = "", paths: tuple[str, ...] = ("claims",)) -> Run:
    return Run("r2", "gpt2", (), paths, partial)


ENTRIES = (
    Entry(lambda folder: Baseline.load(folder / "gpt2.json")),
    Entry(lambda folder: Baseline.load(folder)),
    Entry(_file("<<<<<<< ours\n")),
    Entry(_file("{}")),
    Entry(_other),
    Entry(lambda _: Intent("create", "")),
    Entry(lambda _: Intent("accept", _WHY)),
    Entry(lambda _: changed(_BEFORE, _run(), Intent("create", _WHY))),
    Entry(lambda _: changed(None, _run(), Intent("update", _WHY))),
    Entry(lambda _: changed(_BEFORE, _run(partial="-k names a part"), Intent("update", _WHY))),
    Entry(lambda _: changed(_BEFORE, _run(paths=("claims/ioi",)), Intent("update", _WHY))),
    Entry(lambda _: changed(None, _run(), Intent("create", _WHY))),
    Entry(lambda _: changed(_BEFORE, _run(), Intent("accept", _WHY, ("ioi/x",)))),
)
