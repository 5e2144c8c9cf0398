"""An SVG drawing as PNG, in the colours of one theme."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from claimlens.ci.figures import theme
from claimlens.ci.figures.drawing import Drawing

FAMILIES = (
    "DejaVu Sans", "Segoe UI", "Verdana", "Noto Sans", "Liberation Sans", "Arial", "Helvetica",
    "Ubuntu", "Roboto", "FreeSans",
)  # fmt: skip
"""Fonts that text is drawn in, the first that there is."""
MOST_PIXELS = 50_000_000
_SIZE = re.compile(r'<svg [^>]*?width="([\d.]+)" height="([\d.]+)"')
_RULE = re.compile(r"(?P<selectors>[^{}]+)\{(?P<body>[^{}]*var\(--own\)[^{}]*)\}")
_OWN = re.compile(r"\.claimlens-figure \.s\d\{--own:var\(--s\d\)\}")
_VARIABLE = re.compile(r"var\(--([a-z0-9]+)\)")


class NoPicture(ValueError):
    """No PNG can be made; the message says why, and what to do."""


def png(
    drawing: Drawing, scale: float = 1.0, dark: bool = False, fonts: Path | None = None
) -> bytes:
    """The picture, `scale` pixels to a pixel of the SVG; `fonts` is a folder to take them from.

    Raises NoPicture: for HTML drawings, without resvg_py, and where text could not be drawn.
    """
    if drawing.suffix != "svg":
        raise NoPicture("token maps and tables are HTML; only SVG figures become PNG")
    width, height = pixels(drawing, scale)
    family = font(fonts)
    text = plain(drawing, theme.DARK if dark else theme.LIGHT, family)
    return _rendered(text, fonts, width=width, height=height)


def pixels(drawing: Drawing, scale: float) -> tuple[int, int]:
    """Width and height of the PNG: whole pixels of the SVG, times the scale."""
    found = _SIZE.search(drawing.body)
    assert found is not None, "every SVG drawing says its size"
    width, height = (max(1, round(round(float(size)) * scale)) for size in found.groups())
    if width * height > MOST_PIXELS:
        raise NoPicture(
            f"{width} x {height} pixels at scale {scale:g}; at most {MOST_PIXELS:,}: "
            "give a smaller --scale"
        )
    return width, height


def plain(drawing: Drawing, colors: Mapping[str, str], family: str) -> str:
    """The SVG without CSS variables, which no renderer but a browser knows."""
    style = _OWN.sub("", drawing.style.replace(theme.variables(), ""))
    style = _RULE.sub(_of_each_series, style)
    style = re.sub(r"font-family:[^;}]+", f'font-family:"{family}"', style)
    text = replace(drawing, style=style).standalone()
    return _VARIABLE.sub(lambda found: colors[found[1]], text)


def _of_each_series(rule: re.Match[str]) -> str:
    """The rule once for each colour of lines, with the class that has it."""
    return "".join(
        ",".join(f"{selector.strip()}.s{i}" for selector in rule["selectors"].split(","))
        + f"{{{rule['body'].replace('--own', f'--s{i}')}}}"
        for i in range(theme.SERIES)
    )


@cache
def font(fonts: Path | None = None) -> str:
    """A font that there is, on this system or in a folder. Raises NoPicture where there is none."""
    if fonts is not None and not fonts.is_dir():
        raise NoPicture(f"--fonts {fonts}: no such folder")
    for family in FAMILIES:
        if _probe(f'<text y="9" font-family="{family}">m</text>', fonts) != _probe("", fonts):
            return family
    where = f"in {fonts}" if fonts else "on this system"
    raise NoPicture(
        f"no font {where}, so the text of a figure would be missing; install one of "
        f"{', '.join(FAMILIES)}, or name a folder that has it: --fonts DIR"
    )


def _probe(inside: str, fonts: Path | None) -> bytes:
    size = 'width="10" height="10"'
    return _rendered(f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{inside}</svg>', fonts)


def _rendered(text: str, fonts: Path | None, **given: Any) -> bytes:
    folder = {"skip_system_fonts": True, "font_dirs": [str(fonts)]} if fonts else {}
    return _renderer()(svg_string=text, **folder, **given)


def _renderer() -> Callable[..., bytes]:
    try:
        found: Callable[..., bytes] = import_module("resvg_py").svg_to_bytes
    except ImportError as error:
        raise NoPicture("PNG needs resvg_py: pip install 'claimlens[png]'") from error
    return found
