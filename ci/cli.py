"""The command `claimlens`: what is done with runs outside of pytest."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from claimlens.ci.baseline import BadBaseline
from claimlens.ci.dispatch import BadEvent, asked_for, secret_of
from claimlens.ci.plain_text import shown
from claimlens.ci.recovery import recover
from claimlens.ci.revision import NoRevision, at_commit
from claimlens.ci.run_files import NoRun, find_run, run_files
from claimlens.ci.run_table import write_runs
from claimlens.ci.sweep import BadSweep, Sweep, Unit, check_runs, read_models
from claimlens.ci.time_line import time_line

PACKAGE = "claimlens"
STORE, SWEEPS = Path(".claimlens/runs"), Path(".claimlens/sweep")
BASELINES = Path("claims/baselines")
FAULTS = (NoRun, BadSweep, NoRevision, BadEvent, BadBaseline)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. A fault of the user's is one line and code 2."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        return int(given.run(given))
    except (*FAULTS, OSError) as error:
        print(shown(f"claimlens {given.command}: {error}"), file=sys.stderr)
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
    many = commands.add_parser(
        "sweep", help="run the claims on many models, each in a process of its own"
    )
    many.add_argument("--models", type=Path, required=True, metavar="FILE", help="a name a line")
    many.add_argument("--jobs", type=_positive, default=1, metavar="N", help="so many at once")
    _add_store(many, SWEEPS)
    many.add_argument(
        "pytest", nargs="*", help="arguments of pytest, behind -- (default: all claims)"
    )
    many.set_defaults(run=_sweep)
    pages = commands.add_parser("report", help="write the findings as pages to be read from disk")
    pages.add_argument("folder", type=Path, metavar="DIR", help="where the pages go")
    pages.add_argument(
        "--run",
        dest="ids",
        action="append",
        metavar="ID",
        help="of this run (default: of all); repeatable",
    )
    _add_store(pages)
    _add_baselines(pages)
    pages.set_defaults(run=_report)
    _add_before_a_gate(commands)
    return parser


def _add_before_a_gate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands that say which model a gate is to look at."""
    named = commands.add_parser("revision", help="print a hub model's name at its commit")
    named.add_argument("model", help="org/name, or org/name@branch, a tag or 40 hex")
    named.add_argument(
        "--accepted",
        choices=("compare", "skip", "only"),
        default="compare",
        help="the revision that the baseline holds: print it as any other (the default), print "
        "nothing in its place, or print it without asking the hub",
    )
    _add_baselines(named)
    named.set_defaults(run=_revision)
    event = commands.add_parser(
        "dispatch", help="check an event that asks for a gate, and print the model it names"
    )
    event.add_argument("file", type=Path, help="the event's JSON")
    event.add_argument(
        "--secret", required=True, metavar="VARIABLE", help="environment variable of the secret"
    )
    _add_baselines(event)
    event.set_defaults(run=_dispatch)


def _add_baselines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--baselines", type=Path, default=BASELINES, metavar="DIR",
        help=f"folder of the baselines (default: {BASELINES})",
    )  # fmt: skip


def _add_store(parser: argparse.ArgumentParser, default: Path = STORE) -> None:
    parser.add_argument(
        "--store", type=Path, default=default, metavar="DIR", help=f"folder (default: {default})"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes")
    return int(text)


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
        _say(fault)
    lost = len(found.damage)
    _say(f"{found.path}: {found.kept} claims kept, {lost} damaged line{'' if lost == 1 else 's'}")
    _say(f"go on with it: --claims-resume {found.path.stem}")
    return 0


def _report(given: argparse.Namespace) -> int:
    from claimlens.ci.report.make import make_report

    named = [find_run(given.store, name) for name in given.ids or ()]
    files = named or run_files(given.store)
    if not files:
        raise NoRun(f"no runs in {given.store}; name another folder with --store")
    _say(make_report(files, given.folder, given.baselines).told)
    return 0


def _sweep(given: argparse.Namespace) -> int:
    everything = ["claims"] if Path("claims").is_dir() else ["--pyargs", f"{PACKAGE}.claims"]
    arguments = given.pytest or everything
    units = [Unit.of(name, given.store, arguments) for name in read_models(given.models)]
    sweep = Sweep(units, arguments, given.jobs)
    check_runs(units)
    left = sweep.run(_say)
    for line in time_line(list(sweep.runs())):
        _say(line)
    if left:
        _say(f"{len(left)} of {len(units)} models are not finished; run it again to go on")
    return 3 if left else 0


def _revision(given: argparse.Namespace) -> int:
    name, told = at_commit(given.model, given.baselines, given.accepted)
    print(shown(told), file=sys.stderr)
    if name:
        print(name)
    return 0


def _dispatch(given: argparse.Namespace) -> int:
    print(asked_for(given.file, secret_of(given.secret, os.environ), given.baselines))
    return 0


def _say(text: str) -> None:
    """Print it; whatever a name contains, a terminal and a CI show it."""
    print(shown(text))


if __name__ == "__main__":
    sys.exit(main())
