"""The figure of a query intervention: lines over scale, by readout and by what is injected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.figures import Line, LineGrid, Panel
from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.kernels.query_intervention import Into, Norm
from claimlens.circuits.kernels.query_sweep import Readout, sweep
from claimlens.circuits.parts import Head, Position, Prompts

LOGIT_DIFF = "logit difference [logits]"
"""The label of seed 000's `graph_lines`."""
TERMS = ("IO", "S1", "S2", "IO-S1", "BOS")
"""What the columns of seed 000's `display_attn_scores` show: give it to `attention_readouts`."""


def query_grid(
    model: Model,
    prompts: Prompts,
    heads: Sequence[Head],
    vectors: Mapping[str, Float[Tensor, "batch d_model"]],
    scales: Sequence[float],
    title: str,
    readouts: Mapping[str, Readout] | None = None,
    y_label: str | None = None,
    *,
    into: Into = "query",
    at: str | Position = "END",
    norm: Norm = "free",
) -> LineGrid:
    """Each readout, its mean over prompts, while each of `vectors` is injected into each head.

    A row for each vector, a column for each of `readouts`, a line for each head, over rising
    scales. Without readouts the logit difference (seed 000, `graph_lines`); other readouts need a
    `y_label` with their unit, as `attention_readouts(TERMS)` and "attention probability" (seed
    000, `display_attn_scores`). One forward per vector, head and scale: give it few prompts on a
    large model. Raises ValueError before any run for scales that do not rise, no vectors, and
    readouts without a label.
    """
    _check(vectors, scales, readouts, y_label)
    rows = []
    for name, vector in vectors.items():
        read = sweep(model, prompts, heads, vector, scales, readouts, into=into, at=at, norm=norm)
        rows.append([Panel(f"{name}: {of}", _lines(y, heads)) for of, y in read.items()])
    return LineGrid(title, "scale", y_label or LOGIT_DIFF, scales, rows)


def _check(
    vectors: Mapping[str, Tensor],
    scales: Sequence[float],
    readouts: Mapping[str, Readout] | None,
    y_label: str | None,
) -> None:
    if not all(a < b for a, b in pairwise(scales)):
        raise ValueError(f"scales {list(scales)} do not rise; sort them, each once")
    if not vectors:
        raise ValueError("no vectors given; a grid needs at least one to inject")
    if readouts is not None and not readouts:
        raise ValueError("no readouts given; leave them out for the logit difference")
    if readouts is not None and not y_label:
        raise ValueError(f"readouts {', '.join(readouts)} need a y_label that says their unit")


def _lines(values: Float[Tensor, "head scale batch"], heads: Sequence[Head]) -> list[Line]:
    means = values.mean(-1).tolist()
    return [Line(str(head), y) for head, y in zip(heads, means, strict=True)]
