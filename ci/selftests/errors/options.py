"""Values of options that cannot be."""

from __future__ import annotations

from pathlib import Path

from claimlens.ci.commands.options import positive
from claimlens.ci.gate_plugin import check_commits
from claimlens.ci.selftests.errors.entry import Entry
from claimlens.circuits.findings import finding
from claimlens.fixtures.measuring import measuring
from claimlens.fixtures.prompts.text import read_text
from claimlens.fixtures.results import ResultCache
from claimlens.fixtures.series_plugin import _indices
from claimlens.fixtures.sizes import bytes_of


def _text(folder: Path, content: bytes) -> object:
    path = folder / "documents.txt"
    path.write_bytes(content)
    return read_text(path)


def _engine() -> None:
    with measuring("fast"):
        pass


def _occupied(folder: Path) -> object:
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    return ResultCache(folder)


def _a_file(folder: Path) -> object:
    (folder / "results").write_text("", encoding="utf-8")
    return ResultCache(folder / "results")


ENTRIES = (
    Entry(lambda _: bytes_of("2 gigs")),
    Entry(lambda _: bytes_of("0")),
    Entry(lambda _: _engine()),
    Entry(lambda _: _indices("first,last")),
    Entry(lambda _: positive("many"), mend="Give a whole number from 1."),
    Entry(lambda _: check_commits(["gpt2"])),
    Entry(lambda folder: read_text(folder / "documents.txt")),
    Entry(lambda folder: _text(folder, b"\xff\xfe")),
    Entry(lambda folder: _text(folder, b"\n")),
    Entry(lambda folder: _text(folder, b"One document.")),
    Entry(lambda _: finding("ioi/taks")),
    Entry(lambda folder: ResultCache(folder, max_bytes=0)),
    Entry(_occupied),
    Entry(_a_file),
)
