"""What each head of a model gave, as layers by heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from claimlens.circuits.figures import BadFigure, Heatmap
from claimlens.circuits.parts import Head

NOT_TRIED = "not tried"
MOST = 256
"""Layers, and heads of a layer, that are drawn."""


def head_map(
    values: Mapping[str, float],
    claimed: Sequence[str],
    unit: str,
    title: str,
    *,
    shape: tuple[int, int] | None = None,
    largest_first: bool = True,
) -> Heatmap:
    """Layers as rows, heads as columns; the claimed heads are outlined, each says its rank.

    `shape` is the model's number of layers and of heads, else as many as are named. Heads without
    a value are "not tried". Raises BadFigure for what is no head, and where there is no value.
    """
    found = {head_of(name): value for name, value in values.items()}
    marked = [head_of(name) for name in claimed]
    rows, columns = _shape([*found, *marked], shape, title)
    order = sorted(found, key=lambda head: found[head], reverse=largest_first)
    ranks = {head: f"rank {i} of {len(order)}" for i, head in enumerate(order, 1)}
    grid = [[Head(layer, index) for index in range(columns)] for layer in range(rows)]
    return Heatmap(
        f"{title} [{unit}]" if unit else title,
        "head",
        "layer",
        range(columns),
        range(rows),
        [[found.get(head) for head in row] for row in grid],
        [(head.layer, head.index) for head in marked],
        notes=[[_note(head, ranks, marked) for head in row] for row in grid],
        gap=NOT_TRIED,
    )


def head_of(name: str) -> Head:
    """The head of a name, of a size that can be drawn; raises BadFigure."""
    try:
        head = Head.parse(name)
    except ValueError as error:
        raise BadFigure(str(error)) from error
    if max(head.layer, head.index) >= MOST:
        raise BadFigure(f"{head}: a map of heads has at most {MOST} layers of {MOST} heads")
    return head


def _shape(heads: Sequence[Head], shape: tuple[int, int] | None, title: str) -> tuple[int, int]:
    """Layers and heads of a layer: what is given, if it holds all heads, else what holds them."""
    if not heads:
        raise BadFigure(f"map of heads {title!r}: no head has a value; there is nothing to show")
    named = 1 + max(head.layer for head in heads), 1 + max(head.index for head in heads)
    if shape is None:
        return named
    if shape[0] < named[0] or shape[1] < named[1]:
        raise BadFigure(
            f"map of heads {title!r}: {shape[0]} layers of {shape[1]} heads; "
            f"it names layer {named[0] - 1} and head {named[1] - 1}"
        )
    return shape


def _note(head: Head, ranks: Mapping[Head, str], claimed: Sequence[Head]) -> str:
    told = [ranks.get(head, ""), "claimed" if head in claimed else ""]
    return ", ".join(filter(None, told))
