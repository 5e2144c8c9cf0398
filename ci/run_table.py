"""The table of `claimlens runs`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from claimlens.ci.progress import progress
from claimlens.ci.run_files import NoRun, StoredRun, read_run
from claimlens.circuits.record import WORDS

WIDE = 1000
"""Columns where no terminal sets them: whatever reads a pipe wants whole lines."""


def write_runs(files: Sequence[Path]) -> int:
    """One line a run: when, which models, how many claims of each verdict, and its end."""
    table = Table("run", "started (UTC)", "models", "claims", "end", box=None, pad_edge=False)
    for path in progress(files, "reading runs"):
        table.add_row(*map(escape, _row(path)))
    printed(table)
    return 0


def printed(table: Table) -> None:
    """Print a table; for a pipe, each row is one line."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)


def _row(path: Path) -> tuple[str, ...]:
    try:
        run = read_run(path)
    except NoRun as error:
        return (
            path.stem,
            "",
            "",
            "",
            f"damaged: {str(error).removeprefix(f'{path}')[:60].strip(', ')}",
        )
    started = str(run.header.get("started", "")).replace("T", " ").removesuffix("+00:00")
    return run.id, started, ", ".join(run.models), _claims(run), _end(run)


def _claims(run: StoredRun) -> str:
    counts = Counter(record.verdict for record in run.records)
    return ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])


def _end(run: StoredRun) -> str:
    if run.end is None:
        return "cut: --claims-resume goes on with it"
    return f"exit {run.end.get('exit')}"
