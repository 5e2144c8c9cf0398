"""Colours of drawings: centred at zero, and legible in light and in dark."""

from __future__ import annotations

import pytest

from claimlens.ci.figures import theme
from claimlens.ci.figures.draw import draw
from claimlens.ci.selftests.heatmap_cells import cells_of
from claimlens.circuits.figures import Heatmap


def test_colours_are_centred_at_zero() -> None:
    drawn = cells_of(draw(Heatmap("t", "x", "y", ["a", "b", "c"], ["d"], [[-1, 0, 2]])))
    assert [(each.sign, each.strength) for _, each in sorted(drawn.items())] == [
        ("minus", 0.5),
        ("minus", 0),
        ("plus", 1),
    ]


def luminance(color: tuple[float, ...]) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def rgb(name: str) -> tuple[float, ...]:
    return tuple(int(name[i : i + 2], 16) / 255 for i in (1, 3, 5))


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_formula_is_the_standards() -> None:
    assert contrast(rgb("#ffffff"), rgb("#000000")) == pytest.approx(21)
    assert contrast(rgb("#ffffff"), rgb("#767676")) == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("colors", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_text_is_legible_on_every_colour(colors: dict[str, str]) -> None:
    paper, ink = rgb(colors["paper"]), rgb(colors["ink"])
    for sign in ("plus", "minus"):
        for step in range(theme.LEVELS + 1):
            part = step / theme.LEVELS
            mixed = tuple(
                part * c + (1 - part) * p for c, p in zip(rgb(colors[sign]), paper, strict=True)
            )
            assert contrast(ink, mixed) >= 4.5, (sign, step)
    for name in ("ink", "faint", *(f"s{i}" for i in range(theme.SERIES))):
        assert contrast(rgb(colors[name]), paper) >= 4.5, name


def test_both_themes_name_the_same_colours() -> None:
    assert theme.LIGHT.keys() == theme.DARK.keys()
    assert "prefers-color-scheme:dark" in theme.variables()
