"""The first page: claims by models, a sentence for each topic, what was not measured, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from claimlens.ci.baseline import Baseline
from claimlens.ci.outcomes import outcome_of
from claimlens.ci.report.cells import SIGNS, Cell, margin
from claimlens.ci.report.names import page_of
from claimlens.ci.report.study import Result, Study
from claimlens.circuits.record import WORDS, ClaimRecord

Baselines = Mapping[str, Baseline]
"""By the name of a model, without a revision."""


@dataclass(frozen=True)
class Row:
    """One claim: where its page is, and a cell for each model (None where it was not run)."""

    claim: str
    page: str
    cells: Sequence[Cell | None]
    margins: Sequence[str]

    @property
    def verdicts(self) -> str:
        """The classes by which the page is filtered."""
        return " ".join(sorted({f"has{WORDS.index(cell.verdict)}" for cell in self.cells if cell}))


@dataclass(frozen=True)
class Topic:
    """The claims of one circuit, and a sentence about them for each model (empty: none)."""

    name: str
    sentences: Sequence[str]
    rows: Sequence[Row]

    @property
    def verdicts(self) -> str:
        """The classes of all its rows."""
        return " ".join(sorted({name for row in self.rows for name in row.verdicts.split()}))


@dataclass(frozen=True)
class Place:
    """What a model's results come from: its weights, how it was run, and when."""

    model: str
    facts: Mapping[str, str]


def topics(study: Study, baselines: Baselines) -> list[Topic]:
    """All topics, in order."""
    return [
        Topic(
            name,
            [_sentence(study, claims, model) for model in study.models],
            [_row(study, claim, baselines) for claim in claims],
        )
        for name, claims in study.topics.items()
    ]


def unmeasured(study: Study) -> list[Result]:
    """The results that are none, for the list of what was not measured and why."""
    return [result for result in study.results() if result.record.verdict == "not measured"]


def places(study: Study) -> list[Place]:
    """Where each model's results come from: of the newest of them."""
    found = []
    for model in study.models:
        mine = [r for r in study.results() if r.record.model_name == model]
        last = max(mine, key=lambda result: result.started)
        identity = {k: v for k, v in last.record.model.items() if k not in ("name", "versions")}
        versions = last.record.model.get("versions", {})
        header = {k: last.run.header.get(k, "") for k in ("started", "platform", "python", "id")}
        facts = {**identity, **versions, **header}
        told = {str(k): str(v) for k, v in facts.items() if v not in ("", None)}
        found.append(Place(model, told))
    return found


def signs() -> list[tuple[str, str, str]]:
    """Class, sign and verdict of each, for the key and the filters."""
    return [(f"v{WORDS.index(word)}", sign, word) for word, sign in SIGNS.items()]


def _row(study: Study, claim: str, baselines: Baselines) -> Row:
    by_model = study.now[claim]
    cells, margins = list[Cell | None](), list[str]()
    for model in study.models:
        results = by_model.get(model, [])
        baseline = baselines.get(model.partition("@")[0])
        known = [baseline.claims.get(r.record.key) for r in results] if baseline else []
        cells.append(Cell.of(results, [a.verdict for a in known if a]) if results else None)
        margins.append(_least_margin(results))
    return Row(claim, page_of(claim), cells, margins)


def _least_margin(results: Sequence[Result]) -> str:
    """The smallest distance to the threshold on the claimed side, where there are numbers."""
    compared = [c for result in results if (c := result.record.deciding) is not None]
    return f"{min(margin(c) for c in compared) + 0.0:+.2g}" if compared else ""


def _sentence(study: Study, claims: Sequence[str], model: str) -> str:
    """`On default 12 of 14 hold; 1 refuted, as expected of it.` Empty where nothing was asked."""
    records = [r.record for c in claims for r in study.now[c].get(model, [])]
    counted = Counter(r.verdict for r in records if r.verdict != "not applicable")
    total = sum(counted.values())
    if not total:
        return f"On {model} none applies." if records else ""
    others = [_others(records, word, n) for word, n in counted.items() if word != "holds"]
    return "; ".join([f"On {model} {counted['holds']} of {total} hold", *others]) + "."


def _others(records: Sequence[ClaimRecord], verdict: str, n: int) -> str:
    mine = [record for record in records if record.verdict == verdict]
    expected = all(outcome_of(record).outcome != "failed" for record in mine)
    return f"{n} {verdict}{', as expected of it' if expected else ''}"
