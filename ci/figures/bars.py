"""Named values, as horizontal bars from zero."""

from __future__ import annotations

from dataclasses import dataclass

from claimlens.ci.figures import words
from claimlens.ci.figures.drawing import Drawing, Sheet, svg
from claimlens.ci.figures.scale import Axis
from claimlens.circuits.figures import Bar, Bars

WIDTH, ROW, LABEL, NAME_LENGTH = 380.0, 20.0, 11.0, 40


@dataclass(frozen=True)
class Drawn:
    """One bar: where it lies, its interval, and its number."""

    name: str
    whole: str
    middle: float
    start: float
    end: float
    sign: str
    whisker: tuple[float, float] | None
    number: str


def draw(figure: Bars, id: str) -> Drawing:
    """Names on the left, numbers on the right, whiskers where there are intervals."""
    names = [words.visible(bar.name, NAME_LENGTH) for bar in figure.bars]
    given = [end for bar in figure.bars for end in (bar.value, bar.low, bar.high)]
    ends = [0.0, *(end for end in given if end is not None)]
    beyond = Axis.over(ends, 1, 0, about=6).overhang
    left = max(20.0 + max(words.width(name, LABEL) for name in names), beyond)
    x = Axis.over(ends, left, left + WIDTH, about=6)
    bars = [
        _drawn(bar, name, i, x)
        for i, (bar, name) in enumerate(zip(figure.bars, names, strict=True))
    ]
    numbers = max(words.width(bar.number, LABEL) for bar in bars)
    height = ROW * len(bars)
    sheet = Sheet(
        id, figure.title, _description(figure), x.end + max(28 + numbers, beyond), height + 44
    )
    y = Axis(0, 1, height, 0)
    return svg("bars.svg.jinja", sheet, figure=figure, x=x, y=y, bars=bars)


def _drawn(bar: Bar, name: str, row: int, x: Axis) -> Drawn:
    whisker = None if bar.low is None or bar.high is None else (x(bar.low), x(bar.high))
    return Drawn(
        name=name,
        whole=bar.name,
        middle=(row + 0.5) * ROW,
        start=min(x(0), x(bar.value)),
        end=max(x(0), x(bar.value)),
        sign="plus" if bar.value > 0 else "minus",
        whisker=whisker,
        number=said(bar),
    )


def said(bar: Bar) -> str:
    """A bar's value, with its interval where it has one."""
    value = words.number(bar.value, 3)
    if bar.low is None or bar.high is None:
        return value
    return f"{value} [{words.number(bar.low, 3)}, {words.number(bar.high, 3)}]"


def _description(figure: Bars) -> str:
    shown = ", ".join(f"{words.visible(bar.name, 60)} {said(bar)}" for bar in figure.bars[:40])
    more = f" and {len(figure.bars) - 40} more" if len(figure.bars) > 40 else ""
    return f"{figure.y_label}: {shown}{more}"
