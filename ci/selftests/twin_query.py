"""A plain GPT-2 in which one head reads a changed input at one position, from raw weights.

The residual stream here is the raw one: what TransformerLens folds into the queries' weights (the
LayerNorm's weight and bias) stands beside them, and nothing is centred but by the LayerNorm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from claimlens.ci.selftests.twin import Change, Place, Twin, gelu, same


@dataclass(frozen=True)
class Injected:
    """A vector for what the head at `into` reads at a position: its query, or its key."""

    into: Place
    which: str
    position: int
    vector: Tensor
    norm: str
    clean_scale: float = math.nan
    held: bool = False  # the layer's own scale is the clean one too

    def of(self, twin: Twin, x: Tensor) -> Tensor:
        """The changed input, after the LayerNorm's own weight and bias, [d_model]."""
        name = f"transformer.h.{self.into[0]}.ln_1"
        own = x[self.position]
        if self.norm == "after":
            added = self.vector - self.vector.mean()  # folded weights read no mean
            scale = self.clean_scale if self.held else scale_of(twin, own)
            normal = (own - own.mean()) / scale + added
        else:
            own = own + self.vector
            scale = self.clean_scale if self.norm == "frozen" else scale_of(twin, own)
            normal = (own - own.mean()) / scale
        return normal * twin.weights[f"{name}.weight"] + twin.weights[f"{name}.bias"]


@dataclass(frozen=True)
class QueryTrace:
    """What the tests read of a run."""

    logits: Tensor
    scores: Mapping[Place, Tensor]
    stream: Mapping[int, Tensor]


def run(
    twin: Twin,
    tokens: Tensor,
    injected: Injected | None = None,
    z_changes: Mapping[Place, Change] | None = None,
    scales: Mapping[int, Tensor] | None = None,
) -> QueryTrace:
    """Run one prompt; `stream` holds what each layer is given, before its LayerNorm.

    `scales` are those that the LayerNorm before a layer's attention divides by, where given.
    """
    w, n = twin.weights, len(tokens)
    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][:n]
    scores: dict[Place, Tensor] = {}
    stream: dict[int, Tensor] = {}
    for layer in range(twin.layers):
        stream[layer] = x
        written = []
        for head in range(twin.heads):
            held = (scales or {}).get(layer)
            read = {which: normed(twin, x, layer, scale=held) for which in "qkv"}
            if injected is not None and injected.into == (layer, head):
                read[injected.which][injected.position] = injected.of(twin, x)
            q, k, v = (projected(twin, read[which], (layer, head), which) for which in "qkv")
            future = torch.ones(n, n).triu(1).bool()
            scores[layer, head] = (q @ k.T / math.sqrt(twin.d_head)).masked_fill(future, -math.inf)
            change = (z_changes or {}).get((layer, head), same)
            written.append(change(scores[layer, head].softmax(1) @ v))
        block = f"transformer.h.{layer}."
        x = x + linear(twin, torch.cat(written, 1), block + "attn.c_proj")
        hidden = gelu(linear(twin, normed(twin, x, layer, "ln_2"), block + "mlp.c_fc"))
        x = x + linear(twin, hidden, block + "mlp.c_proj")
    stream[twin.layers] = x
    centred = (x - x.mean(1, keepdim=True)) / scale_of(twin, x)
    last = centred * w["transformer.ln_f.weight"] + w["transformer.ln_f.bias"]
    return QueryTrace(last @ w["lm_head.weight"].T, scores, stream)


def scale_of(twin: Twin, x: Tensor) -> Tensor:
    """The LayerNorm's scale: a single number per position."""
    return (x.var(-1, unbiased=False, keepdim=True) + twin.eps).sqrt()


def normed(
    twin: Twin, x: Tensor, layer: int, place: str = "ln_1", scale: Tensor | None = None
) -> Tensor:
    """A LayerNorm of a layer, with its weight and bias."""
    name = f"transformer.h.{layer}.{place}"
    centred = (x - x.mean(1, keepdim=True)) / (scale_of(twin, x) if scale is None else scale)
    return centred * twin.weights[f"{name}.weight"] + twin.weights[f"{name}.bias"]


def projected(twin: Twin, x: Tensor, at: Place, which: str) -> Tensor:
    """The queries, keys or values of one head, [pos, d_head]."""
    layer, head = at
    start = "qkv".index(which) * twin.width + head * twin.d_head
    own = slice(start, start + twin.d_head)
    name = f"transformer.h.{layer}.attn.c_attn"
    return x @ twin.weights[f"{name}.weight"][:, own] + twin.weights[f"{name}.bias"][own]


def linear(twin: Twin, x: Tensor, name: str) -> Tensor:
    """A Conv1D of GPT-2."""
    return x @ twin.weights[f"{name}.weight"] + twin.weights[f"{name}.bias"]
