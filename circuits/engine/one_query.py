"""Attention of one query a cell, whose keys and values are never made.

W_K stands behind the query and W_V behind the pattern: two products a cell in place of two a row.
Only without rotary positions, which stand between W_K and the query.
"""

from __future__ import annotations

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.engine.attention import softmax
from claimlens.circuits.engine.linear import Linear
from claimlens.circuits.engine.run import Run

_BY_GROUP = "d_model (group e) -> group d_model e"


def attend_unmade(
    q: Float[Tensor, "cell batch 1 head d_head"],
    read: Float[Tensor, "cell batch row d_model"],
    run: Run,
    number: int,
    start: int,
) -> Float[Tensor, "cell batch 1 head d_head"]:
    """z of a query that sees the run's rows before `start` and, behind them, all rows of `read`,
    the stream as a layer's attention reads it."""
    layer, shared_k, shared_v = run.weights.layers[number], *run.before(number, start)
    asking = rearrange(q, "c b 1 (g s) e -> c b g s e", g=run.weights.groups)
    before = einsum(asking, shared_k, "c b g s e, b src g e -> c b g s src")
    own = einsum(_asked(asking, layer.k), read, "c b g s d, c b row d -> c b g s row")
    own += _constant(asking, layer.k)
    scores = torch.cat([before, own], -1) * q.shape[-1] ** -0.5
    pattern = softmax(scores, narrow=False)
    on_shared, on_own = pattern[..., :start], pattern[..., start:]
    mixed = einsum(on_own, read, "c b g s row, c b row d -> c b g s d")
    z = einsum(on_shared, shared_v, "c b g s src, b src g e -> c b g s e")
    z += einsum(mixed, _weight(layer.v, asking), "c b g s d, g d e -> c b g s e")
    if layer.v.bias is not None:
        bias = rearrange(layer.v.bias, "(g e) -> g 1 e", g=asking.shape[2])
        z += on_own.sum(-1, keepdim=True) * bias
    found: Tensor = rearrange(z, "c b g s e -> c b 1 (g s) e")
    return found


def _asked(
    asking: Float[Tensor, "cell batch group share d_head"], k: Linear
) -> Float[Tensor, "cell batch group share d_model"]:
    """What a query looks for in the normalised stream."""
    return einsum(asking, _weight(k, asking), "c b g s e, g d e -> c b g s d")


def _constant(
    asking: Float[Tensor, "cell batch group share d_head"], k: Linear
) -> Float[Tensor, "cell batch group share 1"] | float:
    """What the bias of the keys adds to a score."""
    if k.bias is None:
        return 0.0
    bias = rearrange(k.bias, "(g e) -> g e", g=asking.shape[2])
    return einsum(asking, bias, "c b g s e, g e -> c b g s")[..., None]


def _weight(
    part: Linear, asking: Float[Tensor, "cell batch group share d_head"]
) -> Float[Tensor, "group d_model d_head"]:
    return rearrange(part.weight, _BY_GROUP, group=asking.shape[2])
