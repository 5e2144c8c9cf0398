"""A figure's drawing: markup for a report, or a document that stands by itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from claimlens.ci.figures import theme, words

TITLE_SIZE = 15
LINE_HEIGHT = 20
MARGIN = 12


@dataclass(frozen=True)
class Drawing:
    """`body` goes into a page as it is, and needs `style` in the page's head, once for all."""

    title: str
    suffix: Literal["svg", "html"]
    body: str
    style: str = ""

    def standalone(self) -> str:
        """The text of a file of its own."""
        if self.suffix == "svg":
            described, end, rest = self.body.partition("</desc>\n")
            return f"{described}{end}<style>{self.style}</style>\n{rest}"
        return _templates().get_template("page.html.jinja").render(drawing=self)


@dataclass(frozen=True)
class Sheet:
    """The paper of an SVG figure: its size, and the title at its top."""

    id: str
    title: str
    description: str
    width: float
    body_height: float

    @property
    def title_lines(self) -> list[tuple[float, str]]:
        """Baseline and text of each line of the title."""
        room = self.width - 2 * MARGIN
        found = words.lines(words.visible(self.title, 400), room, TITLE_SIZE)
        return [(MARGIN + TITLE_SIZE + i * LINE_HEIGHT, line) for i, line in enumerate(found)]

    @property
    def top(self) -> float:
        """Where the body begins."""
        return self.title_lines[-1][0] + MARGIN

    @property
    def height(self) -> float:
        """Title and body."""
        return self.top + self.body_height + MARGIN


def svg(template: str, sheet: Sheet, **given: Any) -> Drawing:
    """An SVG drawing; the body's template counts from the sheet's top left corner."""
    body = _templates().get_template(template).render(sheet=sheet, **given)
    style = _templates().get_template("sheet.css.jinja").render(variables=theme.variables())
    return Drawing(sheet.title, "svg", body, style)


def html(template: str, id: str, title: str, style: str = "", **given: Any) -> Drawing:
    """An HTML drawing."""
    body = _templates().get_template(template).render(id=id, title=title, **given)
    shared = _templates().get_template("figure.css.jinja").render(variables=theme.variables())
    return Drawing(title, "html", body, shared + style)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["px"] = _pixels
    environment.filters["visible"] = words.visible
    return environment


def _pixels(value: float) -> str:
    """A coordinate to a hundredth of a pixel."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
