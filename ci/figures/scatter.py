"""Points in a plane, the labelled ones named without overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from claimlens.ci.figures import words
from claimlens.ci.figures.drawing import Drawing, Sheet, svg
from claimlens.ci.figures.placing import Box, beside
from claimlens.ci.figures.scale import Axis
from claimlens.circuits.figures import Point, Scatter

WIDTH, HEIGHT, LABEL, NAME_LENGTH = 520.0, 340.0, 11.0, 32
MOST_OBSTACLES = 2000
"""Dots that labels keep clear of where they can."""


@dataclass(frozen=True)
class Label:
    """A name beside its point."""

    text: str
    whole: str
    box: Box
    point: tuple[float, float]

    @property
    def reach(self) -> tuple[float, float]:
        """The point of the box that is nearest to the dot: where the leader ends."""
        x, y = self.point
        return (
            min(max(x, self.box.left), self.box.right),
            min(max(y, self.box.top), self.box.bottom),
        )


def draw(figure: Scatter, id: str) -> Drawing:
    """Dots, with the names that fit beside them; the others are listed below."""
    points = figure.points
    y = Axis.over([p.y for p in points], HEIGHT, 8)
    beyond = Axis.over([p.x for p in points], 1, 0, about=8).overhang
    left = max(40.0 + y.label_width, 24.0 + beyond)
    x = Axis.over([p.x for p in points], left, left + WIDTH, about=8)
    dots = [(x(p.x), y(p.y)) for p in points]
    named = [(p, dot) for p, dot in zip(points, dots, strict=True) if p.label]
    labels, unplaced = _labels(named, dots, Box(left, 8, left + WIDTH, HEIGHT))
    note = words.lines(_note(unplaced), WIDTH, LABEL) if unplaced else []
    size = left + WIDTH + max(30.0, beyond), HEIGHT + 44 + 16 * len(note)
    sheet = Sheet(id, figure.title, _description(figure), *size)
    plain = [dot for p, dot in zip(points, dots, strict=True) if not p.label]
    given = {"dots": plain, "named": [dot for _, dot in named], "labels": labels, "note": note}
    return svg("scatter.svg.jinja", sheet, figure=figure, x=x, y=y, **given)


def _labels(
    named: Sequence[tuple[Point, tuple[float, float]]],
    dots: Sequence[tuple[float, float]],
    bounds: Box,
) -> tuple[list[Label], list[str]]:
    texts = [words.visible(p.label, NAME_LENGTH) for p, _ in named]
    sizes = [(words.width(text, LABEL), LABEL + 3) for text in texts]
    own = [dot for _, dot in named]
    boxes = beside(own, sizes, bounds, keep_clear=own, avoid=dots[:MOST_OBSTACLES])
    tried = list(zip(texts, named, boxes, strict=True))
    placed = [Label(text, p.label, box, dot) for text, (p, dot), box in tried if box is not None]
    return placed, [text for text, _, box in tried if box is None]


def _note(unplaced: Sequence[str]) -> str:
    return f"no room for the names of {len(unplaced)}: {', '.join(unplaced)}"


def _description(figure: Scatter) -> str:
    named = [words.visible(p.label, 60) for p in figure.points if p.label]
    xs, ys = [p.x for p in figure.points], [p.y for p in figure.points]
    text = (
        f"{len(figure.points)} points; {figure.x_label} from {words.number(min(xs))} to "
        f"{words.number(max(xs))}, {figure.y_label} from {words.number(min(ys))} to "
        f"{words.number(max(ys))}"
    )
    return f"{text}; named: {', '.join(named[:30])}" if named else text
