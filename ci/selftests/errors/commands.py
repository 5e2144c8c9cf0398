"""What the commands cannot do: claims that are no more, runs that cannot be compared, pictures."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from claimlens.ci.commands import diff, new, show
from claimlens.ci.commands.options import known_runs
from claimlens.ci.comparing import Side, change_of
from claimlens.ci.figures.__main__ import _scale
from claimlens.ci.figures.draw import draw
from claimlens.ci.figures.export import export
from claimlens.ci.figures.head_map import head_map
from claimlens.ci.figures.png import font, pixels, png
from claimlens.ci.report.study import Study
from claimlens.ci.selftests.errors.entry import Entry
from claimlens.ci.selftests.report_samples import finding, run
from claimlens.ci.store import RunFile
from claimlens.circuits.figures import Bar, Bars, Heatmap, Table
from claimlens.circuits.record import ClaimRecord

BARS = draw(Bars("Effects", "logits", [Bar("IO", 1.0)]))


def _stored(folder: Path, *records: ClaimRecord) -> str:
    made = RunFile.create(folder, {})
    for record in records:
        made.add(record)
    made.close()
    return str(made.path)


def _shown(model: str = "default", claim: str = "ioi/x") -> object:
    return show._chosen(Study.of([run(finding())]), claim, [model])


def _diff(folder: Path, new_model: str) -> object:
    old = _stored(folder / "a", finding())
    later = _stored(folder / "b", finding(model=new_model))
    return diff.run(Namespace(store=folder, old=old, new=later, json=False))


def _dtypes() -> object:
    plain, half = finding(), finding()
    half = replace(half, model={**half.model, "dtype": "bfloat16"})
    return diff._compared(run(plain), "default", run(half), "default")


def _unknown_dtype() -> object:
    made = run(finding())
    side = Side(made.records[0].comparisons[0], made.prompts["p"])
    return change_of(side, side, "int7")


def _twice(folder: Path) -> object:
    new.write_claim("mine/accuracy", "behaviour", "ours", folder)
    return new.write_claim("mine/accuracy", "behaviour", "ours", folder)


def _exported(folder: Path, only: str, *records: ClaimRecord) -> object:
    made = Path(_stored(folder, *records)).rename(folder / "20260101T000000Z-0a1b2c3d.jsonl")
    return export(made, folder / "out", only=only)


ENTRIES = (
    Entry(lambda folder: known_runs(folder)),
    Entry(lambda folder: new.write_claim("Mine", "behaviour", "ours", folder)),
    Entry(_twice),
    Entry(lambda _: _shown(claim="ioi/y")),
    Entry(lambda _: _shown("gpt2")),
    Entry(lambda folder: _diff(folder, "gpt2")),
    Entry(
        lambda _: diff._models(run(finding(model="org/name@main"), finding(model="org/name@dev")))
    ),
    Entry(lambda _: _dtypes()),
    Entry(lambda _: _unknown_dtype()),
    Entry(lambda _: _scale("0")),
    Entry(lambda folder: _exported(folder, "*", finding(figures=[]))),
    Entry(lambda folder: _exported(folder, "sae/*", finding())),
    Entry(lambda _: head_map({"9.x": 1.0}, [], "logits", "Heads")),
    Entry(lambda _: head_map({"L9999H0": 1.0}, [], "logits", "Heads")),
    Entry(lambda _: head_map({}, [], "logits", "Heads")),
    Entry(lambda _: head_map({"L3H0": 1.0}, [], "logits", "Heads", shape=(2, 4))),
    Entry(lambda _: png(draw(Table("Latents", ["id"], [[1]]))), mend="They are written as HTML."),
    Entry(lambda _: pixels(BARS, 1000.0)),
    Entry(lambda folder: font(folder / "fonts"), mend="Name a folder that holds fonts."),
    Entry(font),
    Entry(lambda _: Heatmap("Heads", "head", "layer", [0], [0], [[None]])),
    Entry(lambda _: Heatmap("Heads", "head", "layer", [0, 1], [0], [[1.0, None]], notes=[["a"]])),
)
