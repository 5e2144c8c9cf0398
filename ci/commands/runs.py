"""`claimlens runs`."""

from __future__ import annotations

import argparse

from claimlens.ci.commands.options import Commands, add_command, add_store, known_runs
from claimlens.ci.run_table import write_runs


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    examples = ("runs", "runs --store other/runs")
    add_store(
        add_command(commands, "runs", "list the runs in a store, oldest first", examples, run)
    )


def run(given: argparse.Namespace) -> int:
    """A line for each run."""
    return write_runs(known_runs(given.store))
