"""What the commands share: how each is described, the folders they look into, what they print."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from claimlens.ci.plain_text import shown
from claimlens.ci.run_files import NoRun, run_files

STORE, BASELINES = Path(".claimlens/runs"), Path("claims/baselines")
Commands = argparse._SubParsersAction
"""What argparse keeps commands in; it has no public name for it."""


class BadRequest(ValueError):
    """A command that asks for what can't be; the message says how to mend it."""


def add_command(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    told: str,
    examples: Sequence[str],
    run: Callable[[argparse.Namespace], int],
    more: str = "",
) -> argparse.ArgumentParser:
    """A command with its one-line help and its examples."""
    shown_examples = "\n".join(f"  claimlens {example}" for example in examples)
    parser = commands.add_parser(
        name,
        help=told,
        description=f"{told[0].upper()}{told[1:]}.{f' {more}' if more else ''}",
        epilog=f"examples:\n{shown_examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_store(parser: argparse.ArgumentParser, default: Path = STORE) -> None:
    """`--store DIR`."""
    parser.add_argument(
        "--store", type=Path, default=default, metavar="DIR", help=f"folder (default: {default})"
    )


def add_baselines(parser: argparse.ArgumentParser) -> None:
    """`--baselines DIR`."""
    parser.add_argument(
        "--baselines", type=Path, default=BASELINES, metavar="DIR",
        help=f"folder of the baselines (default: {BASELINES})",
    )  # fmt: skip


def add_models(parser: argparse.ArgumentParser, told: str) -> None:
    """`--model NAME`, repeatable."""
    parser.add_argument(
        "--model", dest="models", action="append", default=[], metavar="NAME",
        help=f"{told}; repeatable",
    )  # fmt: skip


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="as JSON, to be read by programs")


def known_runs(store: Path) -> list[Path]:
    """The run files of a store, oldest first; raises NoRun where there are none."""
    files = run_files(store)
    if not files:
        raise NoRun(f"no runs in {store}; name another folder with --store")
    return files


def positive(text: str) -> int:
    """A number of processes."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes")
    return int(text)


def say(text: str) -> None:
    """Print it; whatever a name contains, a terminal and a CI show it."""
    print(shown(text))
