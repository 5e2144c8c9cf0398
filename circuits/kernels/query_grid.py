"""The figure of a query intervention: lines over scale, by readout and by what is injected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.figures import Line, LineGrid, Panel
from claimlens.circuits.kernels.attention import Weight
from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.kernels.query_intervention import (
    Into,
    Norm,
    attention_readouts,
    sweep,
)
from claimlens.circuits.parts import Head, Position, Prompts

TERMS = ("IO", "S1", "S2", "IO-S1", "BOS")
"""The columns of seed 000, `display_attn_scores`."""


def query_grid(
    model: Model,
    prompts: Prompts,
    heads: Sequence[Head],
    vectors: Mapping[str, Float[Tensor, "batch d_model"]],
    scales: Sequence[float],
    title: str,
    terms: Sequence[str] = TERMS,
    of: Weight = "probability",
    *,
    into: Into = "query",
    at: str | Position = "END",
    norm: Norm = "free",
) -> LineGrid:
    """Attention of `heads` from END, mean over prompts, while each of `vectors` is injected.

    A row for each vector, a column for each of `terms`, a line for each head, over rising scales.
    One forward per vector, head and scale: give it few prompts on a large model. From seed 000,
    `display_attn_scores`.
    """
    readouts = attention_readouts(terms, of=of)
    rows = []
    for name, vector in vectors.items():
        read = sweep(model, prompts, heads, vector, scales, readouts, into=into, at=at, norm=norm)
        rows.append([Panel(f"{name}: {term}", _lines(read[term], heads)) for term in terms])
    return LineGrid(title, "scale", f"attention {of}", scales, rows)


def _lines(values: Float[Tensor, "head scale batch"], heads: Sequence[Head]) -> list[Line]:
    means = values.mean(-1).tolist()
    return [Line(str(head), y) for head, y in zip(heads, means, strict=True)]
