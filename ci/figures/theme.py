"""Colours, light and dark: one place, so that a test can check their contrast."""

from __future__ import annotations

from collections.abc import Mapping

LIGHT = {
    "paper": "#ffffff", "ink": "#1b1f24", "faint": "#59636e", "rule": "#d8dee4",
    "plus": "#e8853a", "minus": "#5b9bd5", "mark": "#1b1f24",
    "s0": "#0b63b5", "s1": "#c2410c", "s2": "#087f5b", "s3": "#9333a8",
    "s4": "#b91c1c", "s5": "#0e7490", "s6": "#854d0e", "s7": "#475569",
}  # fmt: skip
DARK = {
    "paper": "#0d1117", "ink": "#e6edf3", "faint": "#9aa4af", "rule": "#30363d",
    "plus": "#a8501a", "minus": "#2b62a3", "mark": "#f0f6fc",
    "s0": "#6cb4ff", "s1": "#ff9e64", "s2": "#5fd6a8", "s3": "#d69cf0",
    "s4": "#ff8a8a", "s5": "#5fd3e6", "s6": "#e0b15e", "s7": "#aab6c8",
}  # fmt: skip
SERIES = 8
"""Colours for lines; from the ninth on, lines are dashed as well."""
DASHES = ("", "6 3", "2 3", "8 3 2 3")
LEVELS = 20
"""Steps of a colour, from nothing to full, where a page needs classes for them."""


def variables() -> str:
    """CSS variables of both themes."""
    dark = _block(DARK)
    return (
        f".claimlens-figure{{{_block(LIGHT)}}}"
        f"@media (prefers-color-scheme:dark){{.claimlens-figure{{{dark}}}}}"
    )


def strength(value: float, largest: float) -> float:
    """How strong the colour of a value is, 0 to 1, on a scale centred at 0."""
    return 0.0 if largest == 0 else abs(value) / largest


def level(value: float, largest: float) -> str:
    """The class of a value's colour: `p7` above 0, `m7` below, empty near 0."""
    steps = round(strength(value, largest) * LEVELS)
    return f"{'p' if value > 0 else 'm'}{steps}" if steps else ""


def levels() -> str:
    """CSS rules of the classes that `level` names."""
    return "".join(
        f".claimlens-figure .{sign}{i}{{background:"
        f"color-mix(in srgb,var(--{name}) {100 * i / LEVELS:g}%,var(--paper))}}"
        for sign, name in (("p", "plus"), ("m", "minus"))
        for i in range(1, LEVELS + 1)
    )


def series(index: int) -> tuple[str, str]:
    """Class and dash pattern of a line."""
    return f"s{index % SERIES}", DASHES[index // SERIES % len(DASHES)]


def _block(colors: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{color};" for name, color in colors.items())
