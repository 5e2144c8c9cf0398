"""`claimlens report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from claimlens.ci.commands.options import (
    Commands,
    add_baselines,
    add_command,
    add_store,
    known_runs,
    say,
)
from claimlens.ci.run_files import find_run


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    told = "write the findings as pages to be read from disk"
    examples = ("report findings", "report findings --run latest")
    parser = add_command(commands, "report", told, examples, run)
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the pages go")
    parser.add_argument(
        "--run", dest="ids", action="append", metavar="ID",
        help="of this run (default: of all); repeatable",
    )  # fmt: skip
    add_store(parser)
    add_baselines(parser)


def run(given: argparse.Namespace) -> int:
    """Write the pages, and say how many."""
    from claimlens.ci.report.make import make_report

    named = [find_run(given.store, name) for name in given.ids or ()]
    files = named or known_runs(given.store)
    say(make_report(files, given.folder, given.baselines).told)
    return 0
