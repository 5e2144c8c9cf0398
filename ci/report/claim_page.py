"""A page for each claim: what it says, what was measured on each model, and how to see it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from claimlens.ci.figures import theme
from claimlens.ci.figures.draw import draw
from claimlens.ci.figures.drawing import Drawing
from claimlens.ci.outcomes import outcome_of, rerun
from claimlens.ci.report.cells import SIGNS, gravest, margin, style_of
from claimlens.ci.report.colored import Colored
from claimlens.ci.report.heads import heads_drawn
from claimlens.ci.report.interval import IntervalPicture
from claimlens.ci.report.names import anchor_of
from claimlens.ci.report.prompts import Spread
from claimlens.ci.report.study import Result, Study, first_broken
from claimlens.circuits.figures import BadFigure, Figure
from claimlens.circuits.record import ClaimRecord, ComparisonRecord


@dataclass(frozen=True)
class Measured:
    """One assertion: its numbers, a picture of them, and its prompts."""

    comparison: ComparisonRecord
    picture: IntervalPicture
    spread: Spread | None
    histogram: Drawing | None

    @property
    def margin(self) -> str:
        """How far the value lies on the claimed side."""
        return f"{margin(self.comparison):+.3g}"


@dataclass(frozen=True)
class Section:
    """The claim on one model and head."""

    anchor: str
    record: ClaimRecord
    sign: str
    style: str
    command: str
    measured: Sequence[Measured]
    colored: Colored
    heads: Drawing | None
    figures: Sequence[Drawing]
    history: Sequence[Result]
    started: str
    faults: Sequence[str]

    @property
    def drawings(self) -> list[Drawing]:
        """All that is drawn of it."""
        histograms = (m.histogram for m in self.measured if m.histogram)
        return [*filter(None, [self.heads]), *self.figures, *histograms]

    @property
    def broke(self) -> Result | None:
        """The result that broke it, if it does not hold now."""
        return first_broken(self.history)


def sections(study: Study, claim: str) -> list[Section]:
    """A section for each model and head, in order of the models; the first has all its heads."""
    found = list[Section]()
    for model in study.models:
        results = study.now[claim].get(model, [])
        records = [result.record for result in results]
        for result in results:
            found.append(_section(study, result, f"r{len(found)}", records))
            records = []
    return found


def styles(found: Sequence[Section], *more: Drawing | None) -> str:
    """What the figures of a page need in its head, each once."""
    shown = [*(drawing for section in found for drawing in section.drawings), *filter(None, more)]
    drawings = [drawing.style for drawing in shown if drawing.style]
    colored = any(section.colored.prompts for section in found)
    return "".join(dict.fromkeys([*drawings, *([theme.levels()] if colored else [])]))


def _section(study: Study, result: Result, id: str, beside: Sequence[ClaimRecord]) -> Section:
    """`beside` are the results of all heads, where this section is to show them."""
    record, faults, figures = result.record, list[str](), list[Drawing]()
    heads: Drawing | None = None
    try:
        heads = heads_drawn(beside, f"{id}-heads")
    except BadFigure as error:
        faults.append(f"the heads cannot be drawn: {error}")
    for number, data in enumerate(record.figures):
        try:
            figures.append(draw(Figure.from_json(data), f"{id}-f{number}"))
        except BadFigure as error:
            faults.append(f"a figure cannot be drawn: {error}")
    expected, word = outcome_of(record).outcome != "failed", gravest([record])
    return Section(
        anchor=anchor_of(record.model_name, record.head),
        record=record,
        sign=SIGNS[word],
        style=style_of(word, expected),
        command=rerun(record),
        measured=[_measured(c, result, f"{id}-c{n}") for n, c in enumerate(record.comparisons)],
        colored=Colored.of(record.token_scores),
        heads=heads,
        figures=figures,
        history=study.past(result),
        started=result.started,
        faults=faults,
    )


def _measured(comparison: ComparisonRecord, result: Result, id: str) -> Measured:
    spread = Spread.of(comparison, result.run)
    histogram = spread.histogram if spread else None
    drawn = draw(histogram, id) if histogram else None
    return Measured(comparison, IntervalPicture.of(comparison), spread, drawn)
