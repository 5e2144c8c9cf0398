"""Reports in which every text is one hostile string: of records, prompts and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from claimlens.ci.baseline import Baseline, accepted, environment_of
from claimlens.ci.report.overview import Baselines
from claimlens.ci.report.study import Study
from claimlens.ci.run_files import StoredRun
from claimlens.ci.selftests.report_samples import finding, run
from claimlens.circuits.figures import (
    Bar,
    Bars,
    Figure,
    Heatmap,
    Histogram,
    Line,
    LineGrid,
    Panel,
    Point,
    Scatter,
    Table,
    TokenMap,
)
from claimlens.circuits.record import ClaimRecord, ControlRecord

WHOLE = {"verdict", "comparisons", "controls", "figures", "model", "prompts"}
PARTS = {"values", "denominators", "prompts"}
"""Fields that are not simply filled: a verdict is one of six words, the others have a form."""


def figures(text: str, number: int) -> list[dict[str, Any]]:
    """Two kinds of the seven, with the text in every place: another number, other kinds."""
    rows = [[0.5, -1.0], [0.0, 2.0]]
    kinds: list[Figure] = [
        Bars(text, text, [Bar(text, 1.0, 0.5, 2.0), Bar(f"{text}2", -1.0)]),
        Heatmap(text, text, text, [text, "b"], [text, "d"], rows, [(0, 1)]),
        Histogram(text, text, [1.0, 2.0, 4.0]),
        Scatter(text, text, text, [Point(0.0, 1.0, text), Point(1.0, 2.0)]),
        Table(text, [text, "b"], [[text, 1.0], [None, 2]]),
        TokenMap(text, text, [[text, "b"], [text]], {text: [[1.0, -1.0], [0.5]]}),
        LineGrid(text, text, text, [0.0, 1.0], [[Panel(text, [Line(text, [0.0, 1.0])])]]),
    ]
    return [kinds[number % 7].to_json(), kinds[(number * 3 + 1) % 7].to_json()]


def filled(value: Any, text: str) -> Any:
    """The value with the text in place of every text in it, keys and parts included."""
    match value:
        case str():
            return text
        case dict():
            return {filled(key, text): filled(each, text) for key, each in value.items()}
        case list():
            return [filled(each, text) for each in value]
        case _:
            return value


def record(text: str, number: int, verdict: str = "holds") -> ClaimRecord:
    """Every text of a record, of its comparison, of its control and of its figures."""
    plain = finding(verdict=verdict, **BUSY)
    changed = {
        each.name: filled(getattr(plain, each.name), text)
        for each in fields(ClaimRecord)
        if each.name not in WHOLE
    }
    identity = {"name": text, "revision": text, "dtype": text, "versions": {text: text}}
    return replace(
        plain,
        **{**changed, "claim": f"{text}/{text}", "model": identity},
        prompts=[{"name": text, "n": 2, "templates": 1, "digest": text}],
        comparisons=[_texts(each, text) for each in plain.comparisons],
        controls=[_texts(each, text) for each in plain.controls],
        figures=figures(text, number),
    )


def _texts(part: Any, text: str) -> Any:
    names = [each.name for each in fields(part) if each.name not in PARTS]
    return replace(part, **{name: filled(getattr(part, name), text) for name in names})


BUSY: dict[str, Any] = {
    "caveat": "x", "role": "x", "role_source": "x", "reason": "x", "controls_note": "x",
    "memory": "x", "engine": {"x": "x"}, "reused": ["x"], "head": "x", "expected": "x",
    "controls": [ControlRecord("x", "x", {"x": "x", "y": "holds"}, "x", True)],
    "checkpoints": [{"name": "x"}], "source_digest": "x",
}  # fmt: skip
"""So that no text is empty before it is filled."""


def study(texts: Sequence[str]) -> Study:
    """A claim for each text; its prompts, its run and a damaged file say the text as well."""
    return Study.of(
        [_run(text, number) for number, text in enumerate(texts)], [*filter(None, texts)]
    )


def _run(text: str, number: int) -> StoredRun:
    verdict = "not measured" if number % 5 == 4 else "holds"
    made = run(record(text, number, verdict), number=number, text=f"{text}{{}}")
    return replace(made, header={**made.header, "python": text, "platform": text})


def with_baselines(texts: Sequence[str]) -> tuple[Study, Baselines]:
    """The same, each on another revision than the accepted one, on which it held."""
    now = [_comparable(_run(text, number)) for number, text in enumerate(texts)]
    before, baselines = [], {}
    for number, text in enumerate(texts):
        held = record(text, number)
        held = replace(held, model={**held.model, "revision": f"{text}0", "dtype": "float32"})
        before.append(run(held, number=number + len(texts), text=f"{text}{{}}"))
        known = {held.key: accepted(held, text, text)}
        place, name = environment_of(held.model), text.partition("@")[0]
        baselines[name] = Baseline(name, f"{text}0", before[-1].id, place, [], known)
    return Study.of([*before, *now]), baselines


def _comparable(made: StoredRun) -> StoredRun:
    """In a dtype that there is: without one nothing can be compared."""
    (only,) = made.records
    return replace(made, records=[replace(only, model={**only.model, "dtype": "float32"})])
