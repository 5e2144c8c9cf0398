"""The command `claimlens`: what is done with claims and runs outside of pytest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from claimlens.ci.baseline import BadBaseline
from claimlens.ci.commands import (
    accept,
    check,
    completion,
    diff,
    dispatch,
    doctor,
    new,
    recover,
    report,
    revision,
    runs,
    show,
    sweep,
)
from claimlens.ci.commands import list as listing
from claimlens.ci.commands.options import BadRequest
from claimlens.ci.dispatch import BadEvent
from claimlens.ci.plain_text import shown
from claimlens.ci.revision import NoRevision
from claimlens.ci.run_files import NoRun
from claimlens.ci.sweep import BadSweep

COMMANDS = (
    check, new, listing, show, diff, accept, runs, report, sweep,
    recover, revision, dispatch, doctor, completion,
)  # fmt: skip
PYTEST = ("check", "list", "sweep")
"""Commands that hand to pytest what stands behind `--`."""
FAULTS = (NoRun, BadSweep, NoRevision, BadEvent, BadBaseline, BadRequest)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. A fault of the user's is one line and code 2."""
    given = parsed(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(given.run(given))
    except (*FAULTS, OSError) as error:
        print(shown(f"claimlens {given.command}: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """What was asked; of a command that runs pytest, what stands behind `--` is pytest's.

    argparse would refuse it behind options. Of any other command `--` ends the options, as always.
    """
    words, behind = [*arguments], list[str]()
    if "--" in words and words[0] in PYTEST:
        at = words.index("--")
        words, behind = words[:at], words[at + 1 :]
    given = parser().parse_args(words)
    if behind:
        given.pytest = [*given.pytest, *behind]
    return given


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    found = argparse.ArgumentParser(
        prog="claimlens",
        description="Interpretability findings as tests: claims, runs and their results.",
        epilog="`claimlens COMMAND --help` shows examples. All that is measured is measured by "
        "pytest, and can be asked of pytest as well.",
    )
    found.add_argument("--version", action=Version, nargs=0, help="print the version and leave")
    found.set_defaults(parser=parser)
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return found


class Version(argparse.Action):
    """`--version`; it is looked up when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it and leave."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"claimlens {version('claimlens')}")
        except PackageNotFoundError:
            print("claimlens, a clone that is not installed")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
