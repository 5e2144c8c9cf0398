"""`claimlens sweep`."""

from __future__ import annotations

import argparse
from pathlib import Path

from claimlens.ci.commands.options import Commands, add_command, add_store, positive, say
from claimlens.ci.commands.pytest_process import all_claims
from claimlens.ci.sweep import Sweep, Unit, check_runs, read_models
from claimlens.ci.time_line import time_line

SWEEPS = Path(".claimlens/sweep")


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    told = "run the claims on many models, each in a process of its own"
    examples = (
        "sweep --models models.txt",
        "sweep --models models.txt --jobs 2 -- claims/ioi -k accuracy",
    )
    more = "The exit code is 0 where all models are finished, 3 where some are not."
    parser = add_command(commands, "sweep", told, examples, run, more)
    parser.add_argument("--models", type=Path, required=True, metavar="FILE", help="a name a line")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="so many at once")
    add_store(parser, SWEEPS)
    parser.add_argument(
        "pytest", nargs="*", help="arguments of pytest, behind -- (default: all claims)"
    )


def run(given: argparse.Namespace) -> int:
    """Run what is not finished, and print what held when."""
    arguments = given.pytest or all_claims()
    units = [Unit.of(name, given.store, arguments) for name in read_models(given.models)]
    sweep = Sweep(units, arguments, given.jobs)
    check_runs(units)
    left = sweep.run(say)
    for line in time_line(list(sweep.runs())):
        say(line)
    if left:
        say(f"{len(left)} of {len(units)} models are not finished; run it again to go on")
    return 3 if left else 0
