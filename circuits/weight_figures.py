"""Figures of what is read off the weights: scores of all heads, of pairs, and eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from claimlens.circuits.figures import Heatmap, Point, Scatter
from claimlens.circuits.kernels.composition import Composition
from claimlens.circuits.kernels.weights import first_of_row
from claimlens.circuits.parts import Head

KS = (1, 5)
"""A score counts the names whose own key is among the first of so many (seed 000)."""
SHOWN = 30
"""Names in a matrix: about as many as in seed 000."""


def heads_figure(
    title: str, scores: Float[Tensor, "layer head"], marked: Sequence[Head] = ()
) -> Heatmap:
    """One score of every head; the claimed heads are outlined."""
    layers, heads = scores.shape
    return Heatmap(
        title,
        "head",
        "layer",
        x=range(heads),
        y=range(layers),
        values=scores.tolist(),
        marked=[(head.layer, head.index) for head in marked],
    )


def composition_figure(title: str, found: Composition) -> Heatmap:
    """The share of every pair; pairs that can never meet are outlined."""
    impossible: list[list[int]] = (~found.causal).nonzero().tolist()
    return Heatmap(
        f"{title} (outlined: the receiver does not come after the sender)",
        "receiver (QK)",
        "sender (OV)",
        x=[str(head) for head in found.receivers],
        y=[str(head) for head in found.senders],
        values=found.shares.tolist(),
        marked=[(row, column) for row, column in impossible],
    )


def names_figure(
    title: str,
    words: Sequence[str],
    matrix: Float[Tensor, "name key"],
    *,
    negative: bool = False,
    shown: int = SHOWN,
) -> Heatmap:
    """A QK or composition matrix of names, the first `shown` of them, each name's own key outlined.

    A row for each name asked about, a column for each name as key, in the order of `words`
    [score times sqrt(d_head)]. The title says for which share of all names the own key is among
    the first 1 and the first 5, or with `negative` the last (seed 000, `look_at_qk_circuit` and
    `look_at_backup_circuit`). Raises ValueError where the matrix is not of these names.
    """
    if tuple(matrix.shape) != (len(words), len(words)):
        raise ValueError(
            f"a matrix of {tuple(matrix.shape)} for {len(words)} names; expected a row and a "
            "column for each"
        )
    few, own = list(words)[:shown], torch.arange(len(words), device=matrix.device)
    signed = -matrix if negative else matrix
    scores = [
        f"{first_of_row(signed, own, k, 'names').double().mean():.0%} of names {_end(negative)} {k}"
        for k in KS
        if k < len(words)
    ]
    return Heatmap(
        f"{title} ({', '.join(scores)})",
        "name as key",
        "name asked about",
        x=few,
        y=few,
        values=matrix[: len(few), : len(few)].tolist(),
        marked=[(row, row) for row in range(len(few))],
    )


def eigenvalues_figure(title: str, found: Complex[Tensor, " eigenvalue"]) -> Scatter:
    """Eigenvalues in the complex plane."""
    points = [Point(value.real, value.imag) for value in found.tolist()]
    return Scatter(title, "real part", "imaginary part", points)


def agreement_figure(
    title: str, one: dict[Head, float], other: dict[Head, float], names: tuple[str, str]
) -> Scatter:
    """Two scores of the heads that have both."""
    points = [Point(one[head], other[head], str(head)) for head in one if head in other]
    return Scatter(title, names[0], names[1], points)


def _end(negative: bool) -> str:
    return "among the last" if negative else "among the first"
