"""`claimlens revision`."""

from __future__ import annotations

import argparse
import sys

from claimlens.ci.commands.options import Commands, add_baselines, add_command
from claimlens.ci.plain_text import shown
from claimlens.ci.revision import at_commit


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    examples = ("revision org/name", "revision org/name@main --accepted skip")
    told = "print a hub model's name at its commit"
    parser = add_command(commands, "revision", told, examples, run)
    parser.add_argument("model", help="org/name, or org/name@branch, a tag or 40 hex")
    parser.add_argument(
        "--accepted",
        choices=("compare", "skip", "only"),
        default="compare",
        help="the revision that the baseline holds: print it as any other (the default), print "
        "nothing in its place, or print it without asking the hub",
    )
    add_baselines(parser)


def run(given: argparse.Namespace) -> int:
    """Print the name; what is told about it goes to stderr."""
    name, told = at_commit(given.model, given.baselines, given.accepted)
    print(shown(told), file=sys.stderr)
    if name:
        print(name)
    return 0
