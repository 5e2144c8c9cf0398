"""The command `claimlens`: what is done with runs outside of pytest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from claimlens.ci.recovery import recover
from claimlens.ci.run_files import NoRun, find_run, run_files
from claimlens.ci.run_table import write_runs

STORE = Path(".claimlens/runs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. A fault of the user's is one line and code 2."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        return int(given.run(given))
    except (NoRun, OSError) as error:
        print(f"claimlens {given.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="claimlens", description="Interpretability findings as tests: runs and their results."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    runs = commands.add_parser("runs", help="list the runs in a store, oldest first")
    _add_store(runs)
    runs.set_defaults(run=_runs)
    mend = commands.add_parser(
        "recover", help="write the intact lines of a damaged run file to a new one"
    )
    mend.add_argument("file", help="a run file, a run's id, or `latest`")
    _add_store(mend)
    mend.set_defaults(run=_recover)
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        type=Path,
        default=STORE,
        metavar="DIR",
        help=f"folder of runs (default: {STORE})",
    )


def _runs(given: argparse.Namespace) -> int:
    files = run_files(given.store)
    if not files:
        raise NoRun(f"no runs in {given.store}; name another folder with --store")
    return write_runs(files)


def _recover(given: argparse.Namespace) -> int:
    named = Path(given.file)
    path = named if named.suffix == ".jsonl" else find_run(given.store, given.file)
    found = recover(path)
    for fault in found.damage:
        print(fault)
    lost = len(found.damage)
    print(f"{found.path}: {found.kept} claims kept, {lost} damaged line{'' if lost == 1 else 's'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
