"""Figures to draw: plain ones, crowded ones, and ones whose words are hostile."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from claimlens.ci.figures.head_map import head_map
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

SCALES = [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]
HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "]]><!--",
    "&amp;&lt;",
    "{{ 7 * 7 }}{% raw %}",
    "a\nb\tc\r",
    "\x00\x01\x1b[31m\x7f\x85",
    "\ud800\ufffe\uffff",
    "\u202egnp.exe\u2066",
    "שלום עולם",
    "😀👨\u200d👩\u200d👧",
    "e\u0301" * 30,
    "x" * 1000,
    " the",
    "",
)


def line(name: str, slope: float, band: bool = False) -> Line:
    """A sigmoid, with a band around it if asked."""
    y = [1 / (1 + math.exp(-slope * x)) for x in SCALES]
    return Line(name, y, [v - 0.05 for v in y], [v + 0.08 for v in y]) if band else Line(name, y)


def grid(names: int = 5, rows: int = 3, columns: int = 5) -> LineGrid:
    """Heads by readout and component, as an intervention sweep gives."""
    panel = [line(f"L9H{i}", 0.5 * i - 1, band=i == 0) for i in range(names)]
    panels = [[Panel(f"readout {j}", panel) for j in range(columns)] for _ in range(rows)]
    return LineGrid("Attention under scaled injections", "scale", "probability", SCALES, panels)


def heads(layers: int = 12, size: int = 12) -> Heatmap:
    """One value per layer and head."""
    rng = random.Random(0)
    values = [[rng.gauss(0, 1) for _ in range(size)] for _ in range(layers)]
    marked = [(layers - 1, 0), (0, size - 1)]
    return Heatmap("Scores", "head", "layer", range(size), range(layers), values, marked)


def tried() -> Heatmap:
    """Some heads only, one of them the claimed one."""
    values = {"L2H3": 0.81, "L1H0": -0.2, "L2H4": 0.1, "L0H5": 0.0}
    return head_map(values, ["L2H3"], "probability", "Attention to IO", shape=(4, 6))


def names(n: int = 60) -> Heatmap:
    """Names by names: more labels than there is room for."""
    given = [f"Name{i}" for i in range(n)]
    values = [[3.0 * (i == j) - 0.1 * ((i + j) % 3) for j in range(n)] for i in range(n)]
    return Heatmap("Names", "key", "query", given, given, values)


def tokens() -> TokenMap:
    """Two prompts, two heads."""
    rows = [["<BOS>", " When", " Mary"], ["<BOS>", " Then"]]
    frames = {"L10H7": [[0.0, 1.0, -2.0], [0.5, 1.0]], "L11H10": [[0.0, 0.5, 1.0], [-1.0, 0.0]]}
    return TokenMap("Effect by source", "logits", rows, frames)


def cloud(n: int = 300, named: int = 14) -> Scatter:
    """Points, some of them named."""
    rng = random.Random(1)
    points = [
        Point(abs(rng.gauss(0, 1)), rng.gauss(0, 1), f"latent {i}" if i < named else "")
        for i in range(n)
    ]
    return Scatter("Latents", "activation", "attribution [logits]", points)


def bars() -> Bars:
    """Components with and without intervals."""
    shown = [Bar(f"L{i // 6}H{i % 6}", math.sin(i)) for i in range(24)]
    return Bars("Attribution", "logits", [*shown, Bar("MLP 3", 2.1, 1.7, 2.6)])


SAMPLES: dict[str, Callable[[], Figure]] = {
    "grid": grid,
    "one panel": lambda: grid(3, 1, 1),
    "many lines": lambda: grid(20, 1, 2),
    "heads": heads,
    "tried": tried,
    "names": names,
    "one cell": lambda: Heatmap("Zero", "x", "y", ["a"], ["b"], [[0.0]]),
    "cloud": cloud,
    "crowd": lambda: cloud(120, 120),
    "histogram": lambda: Histogram("Loss", "nats", [math.sin(i) for i in range(99)]),
    "constant": lambda: Histogram("Constant", "nats", [3.0] * 5, 4),
    "bars": bars,
    "huge": lambda: Scatter("Huge", "x", "y", [Point(-1e300, 1e-300), Point(9e299, 0.0)]),
    "tokens": tokens,
    "table": lambda: Table("Table", ["latent", "loss"], [[1, 0.25], [2, None], [None, -1e-9]]),
}


def hostile() -> dict[str, Figure]:
    """Every kind of figure with hostile words in every place that takes words."""
    words = list(HOSTILE)
    lines = [line(word, i / 5) for i, word in enumerate(words)]
    row = [float(i - 7) for i in range(len(words))]
    first = words[0]
    named = [Point(i, -i, word) for i, word in enumerate(words)]
    return {
        "LineGrid": LineGrid(
            first, words[1], words[2], SCALES, [[Panel(w, lines[:8]) for w in words[:4]]]
        ),
        "Heatmap": Heatmap(first, words[1], words[2], words, words, [row] * len(words), [(0, 1)]),
        "TokenMap": TokenMap(first, words[1], [words, words], {w: [row, row] for w in words}),
        "TokenMap as text": TokenMap(first, words[1], [words], {"one": [row]}, layout="text"),
        "Scatter": Scatter(first, words[1], words[2], named),
        "Histogram": Histogram(first, words[1], row, 3),
        "Bars": Bars(first, words[1], [Bar(w, i) for i, w in enumerate(words)]),
        "Table": Table(first, words, [words, words[::-1]]),
    }
