"""Draw the figures that a run's claims attached to their records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from claimlens.ci.figures.draw import draw
from claimlens.ci.run_files import read_run
from claimlens.circuits.figures import BadFigure, Figure
from claimlens.circuits.record import ClaimRecord


class NoFigures(ValueError):
    """There is nothing to draw, or it cannot be read or written; the message says why."""


@dataclass(frozen=True)
class Attached:
    """A figure, and the name its file gets: claim, model, head, number."""

    name: str
    figure: Figure


def export(run: Path, folder: Path) -> list[Path]:
    """Write a file per figure of a run file into `folder`; the paths written.

    Raises NoFigures.
    """
    attached = list(_attached(run))
    if not attached:
        raise NoFigures(
            f"{run} has no figures; a claim attaches them with the `figure` fixture: "
            "figure(Heatmap(…))"
        )
    drawn = [(each.name, draw(each.figure)) for each in attached]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = _distinct([folder / f"{name}.{drawing.suffix}" for name, drawing in drawn])
        for path, (_, drawing) in zip(paths, drawn, strict=True):
            path.write_text(drawing.standalone(), encoding="utf-8")
    except OSError as error:
        raise NoFigures(f"figures cannot be written to {folder}: {error}") from error
    return paths


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
            yield Attached(_name(record, number), figure)


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
