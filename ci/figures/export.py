"""Draw the figures that a run's claims attached to their records."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path

from claimlens.ci.figures.draw import draw
from claimlens.ci.figures.drawing import Drawing
from claimlens.ci.run_files import read_run
from claimlens.circuits.figures import BadFigure, Figure
from claimlens.circuits.record import ClaimRecord

SHOWN = 5
"""Claims named where a pattern matches none."""


class NoFigures(ValueError):
    """There is nothing to draw, or it cannot be read or written; the message says why."""


@dataclass(frozen=True)
class Attached:
    """A figure, and the name its file gets: claim, model, head, number."""

    claim: str
    name: str
    figure: Figure


def export(
    run: Path,
    folder: Path,
    only: str = "*",
    picture: Callable[[Drawing], bytes] | None = None,
) -> list[Path]:
    """Write a file per figure of a run file into `folder`; the paths written.

    `only` is a pattern of claims (`ioi/*`); `picture` makes the PNG that is written in place of an
    SVG. Raises NoFigures.
    """
    chosen = _chosen(list(_attached(run)), run, only)
    drawn = [(each.name, *_content(draw(each.figure), picture)) for each in chosen]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = _distinct([folder / f"{name}.{suffix}" for name, suffix, _ in drawn])
        for path, (_, _, content) in zip(paths, drawn, strict=True):
            path.write_bytes(content)
    except OSError as error:
        raise NoFigures(f"figures cannot be written to {folder}: {error}") from error
    return paths


def _chosen(attached: Sequence[Attached], run: Path, only: str) -> list[Attached]:
    if not attached:
        raise NoFigures(
            f"{run} has no figures; a claim attaches them with the `figure` fixture: "
            "figure(Heatmap(…))"
        )
    found = [each for each in attached if fnmatchcase(each.claim, only)]
    if not found:
        claims = sorted({each.claim for each in attached})
        more = f" and {len(claims) - SHOWN} more" if len(claims) > SHOWN else ""
        raise NoFigures(
            f"{run}: no claim with a figure matches {only!r}; with figures are "
            f"{', '.join(claims[:SHOWN])}{more}"
        )
    return found


def _content(drawing: Drawing, picture: Callable[[Drawing], bytes] | None) -> tuple[str, bytes]:
    """The file's suffix and what is in it."""
    if picture is not None and drawing.suffix == "svg":
        return "png", picture(drawing)
    return drawing.suffix, drawing.standalone().encode()


def _distinct(paths: list[Path]) -> list[Path]:
    """The paths, numbered where several models' names give one."""
    found: list[Path] = []
    for path in paths:
        tries = (path.with_stem(f"{path.stem}-{i}" if i > 1 else path.stem) for i in count(1))
        found.append(next(candidate for candidate in tries if candidate not in found))
    return found


def _attached(run: Path) -> Iterator[Attached]:
    for record in _records(run):
        for number, data in enumerate(record.figures, 1):
            try:
                figure = Figure.from_json(data)
            except BadFigure as error:
                raise NoFigures(
                    f"{run}: figure {number} of {record.nodeid} is damaged: {error}"
                ) from error
            yield Attached(record.claim, _name(record, number), figure)


def _records(run: Path) -> list[ClaimRecord]:
    if not run.is_file():
        kind = "a folder" if run.is_dir() else "no such file"
        raise NoFigures(
            f"{run}: {kind}; expected a run file, as a test run names it at its end "
            "(`results: …jsonl`)"
        )
    try:
        return read_run(run).records
    except (ValueError, OSError) as error:
        raise NoFigures(str(error)) from error


def _name(record: ClaimRecord, number: int) -> str:
    """`ioi-name-movers_default_L2H3_1`, of letters that every file system takes."""
    parts = (record.claim, record.model_name, record.head or "", str(number))
    return "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-.") for part in parts if part)
