"""Runs that cannot be found or read, and figures that cannot be written."""

from __future__ import annotations

from pathlib import Path

from claimlens.ci.figures.export import export
from claimlens.ci.run_files import find_run, lines_of, read_run
from claimlens.ci.selftests.errors.entry import Entry


def _run(folder: Path, text: str) -> Path:
    path = folder / "20260101-000000-abc.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


ENTRIES = (
    Entry(lambda folder: find_run(folder, "latest"), mend="Name another folder with `--store`."),
    Entry(lambda folder: find_run(_run(folder, "").parent, "../../etc")),
    Entry(lambda folder: find_run(_run(folder, "").parent, "2025")),
    Entry(lambda folder: list(lines_of(folder / "run.jsonl"))),
    Entry(lambda folder: read_run(_run(folder, "")), mend="Name a file that a run wrote."),
    Entry(lambda folder: read_run(_run(folder, "[]\n"))),
    Entry(lambda folder: export(folder / "run.jsonl", folder / "figures")),
    Entry(lambda folder: export(_run(folder, "[]\n"), folder / "figures")),
)
