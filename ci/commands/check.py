"""`claimlens check`."""

from __future__ import annotations

import argparse
from itertools import takewhile

from claimlens.ci.commands.options import Commands, add_command, add_models
from claimlens.ci.commands.pytest_process import all_claims, run_pytest, with_models


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    examples = ("check", "check --model gpt2 claims/ioi", "check -- -k accuracy -x")
    more = "It prints the pytest command that it runs, and ends with pytest's exit code."
    parser = add_command(commands, "check", "run the claims", examples, run, more)
    add_models(parser, "of this model (default: the embedded one)")
    parser.add_argument(
        "pytest", nargs="*", metavar="PATH",
        help="claims to run (default: claims/ if it is there, else those that claimlens brings "
        "along), and, behind --, other arguments of pytest",
    )  # fmt: skip


def run(given: argparse.Namespace) -> int:
    """Run pytest."""
    named = list(takewhile(lambda word: not word.startswith("-"), given.pytest))
    arguments = given.pytest if named else [*all_claims(), *given.pytest]
    return run_pytest(with_models(arguments, given.models))
