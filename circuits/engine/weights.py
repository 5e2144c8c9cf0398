"""A model's processed weights as plain matrices, for the architectures that the engine knows.

GPT-2 (LayerNorm, learned positions), Llama (RMSNorm, rotary positions, grouped heads, gated MLP)
and GPT-NeoX (parallel blocks, rotary positions on a part of a head). Nothing is copied: every
matrix is a view of the bridge's own weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from claimlens.circuits.engine.linear import ACTIVATIONS, Activation, Linear
from claimlens.circuits.engine.policy import Unsupported
from claimlens.circuits.kernels.bridge import Bridge, embeds_positions, parallel, soft_cap
from claimlens.circuits.kernels.modules import parameters

ARCHITECTURES = ("GPT2LMHeadModel", "LlamaForCausalLM", "GPTNeoXForCausalLM")
NARROW = ("LlamaForCausalLM",)
"""Those whose softmax is in float32 whatever the dtype."""
Norm = Callable[[Float[Tensor, "*rows d_model"]], Float[Tensor, "*rows d_model"]]
MLP_ROWS = 2048
"""Rows that an MLP is computed for at a time: its neurons are four times as wide as the stream."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One block: attention of `heads` query heads in `groups` of keys and values, and an MLP."""

    ln1: Norm
    ln2: Norm
    q: Linear
    k: Linear
    v: Linear
    o: Linear
    w_in: Linear
    w_out: Linear
    gate: Linear | None
    act: Activation

    def mlp(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """What the MLP writes for a stream, a block of rows at a time."""
        flat = rearrange(x, "... d -> (...) d")
        blocks = [self.w_out(self.neurons(self.ln2(part))) for part in torch.split(flat, MLP_ROWS)]
        return torch.cat(blocks).reshape(x.shape)

    def neurons(self, normalised: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_mlp"]:
        """Activations of the MLP's neurons."""
        if self.gate is None:
            return self.w_in(normalised, self.act)
        return self.gate(normalised, self.act) * self.w_in(normalised)


@dataclass(frozen=True, eq=False)
class Weights:
    """All that a forward pass needs."""

    layers: tuple[Layer, ...]
    final: Norm
    unembed: Linear
    heads: int
    groups: int
    d_head: int
    parallel: bool
    narrow: bool
    embed: Callable[[Tensor], Tensor]
    positions: Float[Tensor, "pos d_model"] | None

    @property
    def shared(self) -> int:
        """Query heads to a group."""
        return self.heads // self.groups

    def embedded(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream before the first layer."""
        with torch.no_grad():
            found = self.embed(tokens)
        return found if self.positions is None else found + self.positions[: tokens.shape[1]]

    def output(self, layer: int, head: int) -> Float[Tensor, "d_head d_model"]:
        """W_O of one head."""
        rows = slice(head * self.d_head, (head + 1) * self.d_head)
        return self.layers[layer].o.weight[rows]


def weights_of(model: Bridge) -> Weights:
    """The weights of a model that `check_known` knows."""
    parts: Any = model
    heads, d_head = int(model.cfg.n_heads), int(model.cfg.d_head)
    groups = int(getattr(model.cfg, "n_key_value_heads", None) or heads)
    unembed = Linear(parts.W_U.detach(), parts.b_U.detach())
    return Weights(
        layers=tuple(_layer(model, block) for block in parts.blocks),
        final=_norm(model, parts.ln_final),
        unembed=unembed,
        heads=heads,
        groups=groups,
        d_head=d_head,
        parallel=parallel(model),
        narrow=str(model.cfg.architecture) in NARROW,
        embed=parts.embed,
        positions=parts.W_pos.detach() if embeds_positions(model) else None,
    )


def check_known(model: Bridge) -> None:
    """Raise Unsupported for a model that the engine has no forward pass for."""
    cfg = model.cfg
    if (name := str(getattr(cfg, "architecture", None))) not in ARCHITECTURES:
        raise Unsupported(f"the architecture {name}; it knows {', '.join(ARCHITECTURES)}")
    if str(cfg.act_fn) not in ACTIVATIONS:
        raise Unsupported(f"the activation function {cfg.act_fn}")
    if soft_cap(model) is not None or float(getattr(cfg, "attn_scores_soft_cap", -1) or -1) > 0:
        raise Unsupported("soft-capped scores or logits")
    if getattr(cfg, "use_split_qkv_input", False):
        raise Unsupported("query, key and value inputs are split")
    devices = {parameter.device for parameter in parameters(model)}
    if len(devices) > 1:
        raise Unsupported(f"a model spread over {len(devices)} devices")


def _layer(model: Bridge, block: Any) -> Layer:
    attn, mlp = block.attn, block.mlp
    gated = bool(getattr(model.cfg, "gated_mlp", False))
    return Layer(
        ln1=_norm(model, block.ln1),
        ln2=_norm(model, block.ln2),
        q=_reading(attn, "q"),
        k=_reading(attn, "k"),
        v=_reading(attn, "v"),
        o=Linear(rearrange(attn.W_O.detach(), "head e d -> (head e) d"), _given(attn, "b_O")),
        w_in=Linear(mlp.W_in.detach(), _given(mlp, "b_in")),
        w_out=Linear(mlp.W_out.detach(), _given(mlp, "b_out")),
        gate=Linear(mlp.W_gate.detach(), _given(mlp, "b_gate")) if gated else None,
        act=ACTIVATIONS[str(model.cfg.act_fn)],
    )


def _reading(attn: Any, part: str) -> Linear:
    weight: Tensor = getattr(attn, f"W_{part.upper()}").detach()
    bias = _given(attn, f"b_{part.upper()}")
    flat = None if bias is None else rearrange(bias, "head e -> (head e)")
    return Linear(rearrange(weight, "head d e -> d (head e)"), flat)


def _given(module: Any, name: str) -> Tensor | None:
    """A bias; None in a model without it, which TransformerLens says by an AttributeError."""
    try:
        bias: Tensor | None = getattr(module, name)
    except AttributeError:
        return None
    return None if bias is None else bias.detach()


def _norm(model: Bridge, module: Any) -> Norm:
    """A LayerNorm by torch's kernel; an RMSNorm by the model's own module, which rounds to float32
    on the way whatever its input is."""
    inner = module.original_component
    if module.uses_rms_norm:
        rms: Norm = inner
        return rms
    weight, bias = _unless(inner.weight, 1.0), _unless(getattr(inner, "bias", None), 0.0)
    width = (int(model.cfg.d_model),)
    return partial(
        functional.layer_norm,
        normalized_shape=width,
        weight=torch.ones_like(bias) if weight is None and bias is not None else weight,
        bias=bias,
        eps=float(getattr(inner, "eps", model.cfg.eps)),
    )


def _unless(parameter: Tensor | None, plain: float) -> Tensor | None:
    """A parameter; None where it does nothing."""
    if parameter is None or bool((parameter == plain).all()):
        return None
    return parameter.detach()
