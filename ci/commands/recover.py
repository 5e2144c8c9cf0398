"""`claimlens recover`."""

from __future__ import annotations

import argparse
from pathlib import Path

from claimlens.ci.commands.options import Commands, add_command, add_store, say
from claimlens.ci.recovery import recover
from claimlens.ci.run_files import find_run


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    told = "write the intact lines of a damaged run file to a new one"
    examples = ("recover latest", "recover .claimlens/runs/20260131T235959Z-0a1b2c3d.jsonl")
    parser = add_command(commands, "recover", told, examples, run)
    parser.add_argument("file", help="a run file, a run's id, or `latest`")
    add_store(parser)


def run(given: argparse.Namespace) -> int:
    """Recover it, and say what was lost."""
    named = Path(given.file)
    path = named if named.suffix == ".jsonl" else find_run(given.store, given.file)
    found = recover(path)
    for fault in found.damage:
        say(fault)
    lost = len(found.damage)
    say(f"{found.path}: {found.kept} claims kept, {lost} damaged line{'' if lost == 1 else 's'}")
    say(f"go on with it: --claims-resume {found.path.stem}")
    return 0
