"""A plain GPT-2 written from its definition, in float64: what the kernels must agree with.

It reads the raw Hugging Face weights and knows nothing of TransformerLens, of folding or of hooks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Place = tuple[int, int]
"""Layer and head."""
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Trace:
    """All of one forward pass, of one prompt without padding."""

    logits: Tensor  # pos d_vocab
    pattern: Mapping[Place, Tensor]  # dst src
    v: Mapping[Place, Tensor]  # pos d_head
    z: Mapping[Place, Tensor]  # pos d_head
    mlp_out: Mapping[int, Tensor]  # pos d_model, before centring
    final_scale: Tensor  # pos


class Twin:
    """One raw model; `z_changes` and `mlp_changes` edit it while it runs."""

    def __init__(self, model: Any) -> None:
        self.weights: dict[str, Tensor] = {
            k: v.detach().double() for k, v in model.state_dict().items()
        }
        self.layers, self.heads = int(model.config.n_layer), int(model.config.n_head)
        self.width, self.eps = int(model.config.n_embd), float(model.config.layer_norm_epsilon)
        self.d_head = self.width // self.heads

    def run(
        self,
        tokens: Tensor,
        z_changes: Mapping[Place, Change] | None = None,
        mlp_changes: Mapping[int, Change] | None = None,
    ) -> Trace:
        """Run one prompt, a row of token ids."""
        w, n = self.weights, len(tokens)
        x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][:n]
        pattern: dict[Place, Tensor] = {}
        values: dict[Place, Tensor] = {}
        z: dict[Place, Tensor] = {}
        mlps: dict[int, Tensor] = {}
        for layer in range(self.layers):
            block = f"transformer.h.{layer}."
            q, k, v = self._linear(self._norm(x, block + "ln_1"), block + "attn.c_attn").chunk(3, 1)
            for head in range(self.heads):
                at, own = (layer, head), slice(head * self.d_head, (head + 1) * self.d_head)
                scores = q[:, own] @ k[:, own].T / math.sqrt(self.d_head)
                future = torch.ones(n, n).triu(1).bool()
                pattern[at] = scores.masked_fill(future, -math.inf).softmax(1)
                values[at] = v[:, own]
                z[at] = (z_changes or {}).get(at, same)(pattern[at] @ v[:, own])
            mixed = torch.cat([z[layer, head] for head in range(self.heads)], 1)
            x = x + self._linear(mixed, block + "attn.c_proj")
            hidden = gelu(self._linear(self._norm(x, block + "ln_2"), block + "mlp.c_fc"))
            mlps[layer] = self._linear(hidden, block + "mlp.c_proj")
            x = x + (mlp_changes or {}).get(layer, same)(mlps[layer])
        logits = self._norm(x, "transformer.ln_f") @ w["lm_head.weight"].T
        return Trace(logits, pattern, values, z, mlps, self._scale(x)[:, 0])

    def b_v(self, at: Place) -> Tensor:
        """The part of a head's values that is the same at every position: what z = 0 stands for."""
        layer, head = at
        block = f"transformer.h.{layer}."
        start = 2 * self.width + head * self.d_head
        weight = self.weights[block + "attn.c_attn.weight"][:, start : start + self.d_head]
        bias = self.weights[block + "attn.c_attn.bias"][start : start + self.d_head]
        return self.weights[block + "ln_1.bias"] @ weight + bias

    def w_o(self, at: Place) -> Tensor:
        """W_O of a head, [d_head, d_model]."""
        layer, head = at
        weight = self.weights[f"transformer.h.{layer}.attn.c_proj.weight"]
        return weight[head * self.d_head : (head + 1) * self.d_head]

    def direct(self, written: Tensor, scale: Tensor, token: int) -> Tensor:
        """What `written` at a position adds to a token's logit over the vocabulary's mean."""
        centred = written - written.mean(-1, keepdim=True)
        read = centred / scale[..., None] * self.weights["transformer.ln_f.weight"]
        unembed = self.weights["lm_head.weight"]
        return read @ (unembed[token] - unembed.mean(0))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return centred / self._scale(x) * weight + bias

    def _scale(self, x: Tensor) -> Tensor:
        return (x.var(1, unbiased=False, keepdim=True) + self.eps).sqrt()

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def same(x: Tensor) -> Tensor:
    """No change."""
    return x


def gelu(x: Tensor) -> Tensor:
    """GPT-2's tanh approximation."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
