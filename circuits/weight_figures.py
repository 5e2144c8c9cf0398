"""Figures of what is read off the weights: scores of all heads, of pairs, and eigenvalues."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Complex, Float
from torch import Tensor

from claimlens.circuits.figures import Heatmap, Point, Scatter
from claimlens.circuits.kernels.composition import Composition
from claimlens.circuits.parts import Head


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
