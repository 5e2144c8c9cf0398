"""`claimlens dispatch`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from claimlens.ci.commands.options import Commands, add_baselines, add_command
from claimlens.ci.dispatch import asked_for, secret_of


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    told = "check an event that asks for a gate, and print the model it names"
    examples = ("dispatch event.json --secret GATE_SECRET",)
    parser = add_command(commands, "dispatch", told, examples, run)
    parser.add_argument("file", type=Path, help="the event's JSON")
    parser.add_argument(
        "--secret", required=True, metavar="VARIABLE", help="environment variable of the secret"
    )
    add_baselines(parser)


def run(given: argparse.Namespace) -> int:
    """Print the model's name, if somebody asked for it who may."""
    print(asked_for(given.file, secret_of(given.secret, os.environ), given.baselines))
    return 0
