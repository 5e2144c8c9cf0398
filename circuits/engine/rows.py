"""Queries, keys and values of some rows of a layer."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.engine.attention import Rotary
from claimlens.circuits.engine.weights import Weights

_BY_HEAD = "cell batch row (head e) -> cell batch row head e"
Made = tuple[Tensor, Tensor, Tensor]
"""Queries "cell batch query head d_head"; keys and values "cell batch row group d_head"."""


def queries_keys_values(
    weights: Weights,
    layer: int,
    x: Float[Tensor, "cell batch row d_model"],
    asking: Int[Tensor, " query"] | None = None,
) -> Made:
    """Keys and values of every row, queries of those `asking`; before rotary positions."""
    parts = weights.layers[layer]
    read = parts.ln1(x)
    q = queries(weights, layer, read if asking is None else read[:, :, asking])
    k, v = (rearrange(part(read), _BY_HEAD, e=weights.d_head) for part in (parts.k, parts.v))
    return q, k, v


def queries(
    weights: Weights, layer: int, read: Float[Tensor, "cell batch query d_model"]
) -> Float[Tensor, "cell batch query head d_head"]:
    """Queries of a normalised stream, before rotary positions."""
    return rearrange(weights.layers[layer].q(read), _BY_HEAD, e=weights.d_head)


def turned(
    rotary: Rotary | None,
    made: Made,
    places: Int[Tensor, " row"],
    queries: Int[Tensor, " query"],
) -> Made:
    """The same with rotary positions, where the model has them."""
    q, k, v = made
    return made if rotary is None else (rotary(q, queries), rotary(k, places), v)
