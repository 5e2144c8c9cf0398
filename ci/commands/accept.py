"""`claimlens accept`."""

from __future__ import annotations

import argparse

from claimlens.ci.commands.options import Commands, add_command, add_models
from claimlens.ci.commands.pytest_process import all_claims, run_pytest, with_models


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    told = "accept the verdict that a claim has now, and keep why"
    examples = ("accept ioi/accuracy --reason 'the new data has no such names'",)
    more = (
        "The claims are\nrun for it, by the pytest command that it prints: a verdict of an older "
        "run may be of another\nclaim or other weights. Never in CI."
    )
    parser = add_command(commands, "accept", told, examples, run, more)
    parser.add_argument("ids", nargs="+", metavar="ID", help="a claim's id, or 'ID HEAD'")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; it is kept")
    add_models(parser, "of this model (default: the embedded one)")


def run(given: argparse.Namespace) -> int:
    """Run pytest; its exit code is 0 or 1 where the baseline was changed."""
    named = [word for id in given.ids for word in ("--claims-accept", id)]
    intent = ["--claims-baseline", "accept", *named, "--claims-reason", given.reason]
    return run_pytest(with_models([*all_claims(), *intent], given.models))
