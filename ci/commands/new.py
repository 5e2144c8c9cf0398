"""`claimlens new`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from claimlens.ci.commands.options import BadRequest, Commands, add_command, say
from claimlens.ci.commands.pytest_process import run_pytest
from claimlens.circuits.record import CLAIM_ID

KINDS = ("behaviour", "mechanism", "weights")
UNSAID = "to be said: the paper, the notebook or the person that this comes from"


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    told = "write a claim to begin with, and run it on the embedded model"
    examples = (
        "new mine/accuracy",
        "new mine/movers --kind mechanism --source 'our notebook, 2026' --folder claims",
    )
    more = "The exit code is pytest's."
    parser = add_command(commands, "new", told, examples, run, more)
    parser.add_argument("id", help="lower-case words and a slash, as mine/accuracy")
    parser.add_argument(
        "--kind", choices=KINDS, default=KINDS[0],
        help="a task that is done (the default), a part that does a job, a property of matrices",
    )  # fmt: skip
    parser.add_argument("--source", default="", metavar="TEXT", help="where the claim comes from")
    parser.add_argument(
        "--folder", type=Path, default=Path("claims"), metavar="DIR",
        help="where the file goes (default: claims)",
    )  # fmt: skip


def run(given: argparse.Namespace) -> int:
    """Write the file, and run it."""
    path = write_claim(given.id, given.kind, given.source, given.folder)
    say(f"{path}: written; its comments say what to change")
    if not given.source.strip():
        say(f"{path}: it names no source yet; write one there before you rely on it")
    return run_pytest([str(path)])


def write_claim(id: str, kind: str, source: str, folder: Path) -> Path:
    """The file of a new claim; raises BadRequest, also where there is one already."""
    if not CLAIM_ID.fullmatch(id):
        raise BadRequest(
            f"claim id {id!r}: expected lower-case words and a slash, as 'ioi/accuracy'"
        )
    path = folder / f"test_{re.sub('[^a-z0-9]', '_', id)}.py"
    text = _text(id, kind, source.strip() or UNSAID)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise BadRequest(f"{path} is there already; take another id or --folder") from error
    return path


def _text(id: str, kind: str, source: str) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader(__package__ or "", "templates")
    environment = Environment(
        loader=loader, undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    environment.filters["literal"] = repr
    template = environment.get_template(f"{kind}.py.jinja")
    return template.render(id=id, source=source)
