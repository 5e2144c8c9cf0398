"""Edge attribution patching with integrated gradients: which head speaks to which.

Hanna et al. 2024 (arXiv:2403.17806), over the edges from heads to the inputs of later heads and to
the logits. MLPs are part of the network here, not nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.attribution_patching import (
    Screening,
    chunks,
    end_logit_diff,
    screened,
)
from claimlens.circuits.kernels.bridge import (
    Bridge,
    all_heads,
    input_norm,
    key_bias,
    key_weights,
    output_weights,
    query_bias,
    query_weights,
    value_bias,
    value_head,
    value_weights,
)
from claimlens.circuits.kernels.cache import (
    Edit,
    Edited,
    Model,
    cache,
    differentiable,
    edited,
    intact,
)
from claimlens.circuits.kernels.memory import Cache
from claimlens.circuits.kernels.path_patch import path_effect
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable

Part = Literal["q", "k", "v"]
PARTS: tuple[Part, ...] = ("q", "k", "v")
ROWS = 8
"""Prompts at once: every head's output and every input's gradient have d_model numbers a place."""
CLOSE = 1e-3
"""Largest disagreement of our own projections with the model's, as a share of them."""
_WEIGHTS = {"q": query_weights, "k": key_weights, "v": value_weights}
_BIASES = {"q": query_bias, "k": key_bias, "v": value_bias}


@dataclass(frozen=True)
class Edge:
    """From a head to the query, key or value input of a later one, or to the logits.

    With grouped keys and values, the receiver of k or v is the first head of its group.
    """

    sender: Head
    receiver: Head | None = None
    into: Part | None = None

    def __str__(self) -> str:
        return f"{self.sender}->{f'{self.receiver}.{self.into}' if self.receiver else 'logits'}"


def edges(model: Model) -> tuple[Edge, ...]:
    """Every edge of the model, by receiver: into the heads layer by layer, then into the logits."""
    bridge = intact(model)
    heads = all_heads(bridge)
    into_heads = [
        Edge(sender, receiver, part)
        for layer in range(1, int(bridge.cfg.n_layers))
        for part in PARTS
        for receiver in _readers(bridge, layer, part)
        for sender in heads
        if sender.layer < layer
    ]
    return (*into_heads, *(Edge(sender) for sender in heads))


def edge_attribution(
    model: Model, prompts: Prompts, source: Prompts, steps: int = 5
) -> Float[Tensor, "batch edge"]:
    """Guessed effect on the logit difference of patching each of `edges(model)` [logits].

    What the sender writes on `source` less what it writes on `prompts`, times the gradient at the
    receiver's input (before its LayerNorm), summed over positions; the gradient is the mean of
    those at token embeddings (1 - a) clean + a source, a = 0, 1/steps, …: one step is plain edge
    attribution patching (Syed et al. 2023, arXiv:2310.10348).
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: expected at least one point to take gradients at")
    found = []
    for part, other in chunks(model, prompts, source, ROWS):
        change, heads = _changes(model, part, other), int(intact(model).cfg.n_heads)
        slopes = enumerate(_slopes(model, part, other, steps), 1)
        scores = [
            einsum(change[:, :, : layer * heads], slope, "b p s d, b p r d -> b r s").flatten(1)
            for layer, slope in slopes
        ]
        found.append(torch.cat(scores, 1))
    return torch.cat(found)


def screen_edges(
    model: Model, prompts: Prompts, source: Prompts, k: int, steps: int = 5
) -> Screening[Edge]:
    """`edge_attribution` of all edges, and the exact effect of the first `k`.

    Exact: path patching of the direct path, MLPs frozen on the way. Costs 3 `k` more forwards.
    """

    def exact(edge: Edge) -> Float[Tensor, " batch"]:
        return path_effect(
            model, prompts, source, edge.sender, edge.receiver, edge.into or "q", mlps="frozen"
        )

    return screened(edges(model), edge_attribution(model, prompts, source, steps), k, exact)


def _changes(
    model: Model, prompts: Prompts, source: Prompts
) -> Float[Tensor, "batch pos sender d_model"]:
    """What every head writes on `source`, less what it writes on `prompts`."""
    bridge = intact(model)
    heads, layers = int(bridge.cfg.n_heads), range(int(bridge.cfg.n_layers))
    z = [f"blocks.{layer}.attn.hook_z" for layer in layers]
    out = [f"blocks.{layer}.hook_attn_out" for layer in layers]
    own, theirs = (cache(model, p, [*z, *out]) for p in (prompts, source))
    written = []
    for layer in layers:
        weights = [output_weights(bridge, Head(layer, index)) for index in range(heads)]
        change = theirs[z[layer]] - own[z[layer]]
        written.append(einsum(change, torch.stack(weights), "b p h e, h e d -> b p h d"))
        _check_close(
            written[-1].sum(2),
            theirs[out[layer]] - own[out[layer]],
            f"layer {layer} does not add what its heads write: the model normalises it first",
        )
    return torch.cat(written, 2)


def _slopes(
    model: Model, prompts: Prompts, source: Prompts, steps: int
) -> list[Float[Tensor, "batch pos receiver d_model"]]:
    """Mean gradient at what each receiver reads: for layers 1 and later, then for the logits."""
    total: list[Tensor] = []
    for step in range(steps):
        slopes = _slopes_at(edited(model, _between(model, source, step / steps)), prompts)
        total = [a + b for a, b in zip(total, slopes, strict=True)] if total else slopes
    return [slope / steps for slope in total]


def _between(model: Model, source: Prompts, share: float) -> Edit:
    """Token embeddings this share of the way to those of `source`."""
    theirs = cache(model, source, ["hook_embed"])["hook_embed"]

    def apply(
        own: Float[Tensor, "batch pos d_model"],
    ) -> Float[Tensor, "batch pos d_model"]:
        return own + share * (theirs - own)

    return Edit("hook_embed", apply, f"embeddings {share:.0%} of the way", noop=True)


def _slopes_at(
    model: Edited, prompts: Prompts
) -> list[Float[Tensor, "batch pos receiver d_model"]]:
    last = int(intact(model).cfg.n_layers)
    end = f"blocks.{last - 1}.hook_resid_post"
    read = [f"blocks.{layer}.attn.hook_{part}" for layer in range(1, last) for part in PARTS]
    streams = [f"blocks.{layer}.hook_resid_pre" for layer in range(1, last)]
    run = differentiable(model, prompts, [*read, *streams, end])
    score = end_logit_diff(run, prompts).sum()
    slopes = torch.autograd.grad(score, [run[name] for name in (*read, end)])
    by_name = dict(zip(read, slopes[:-1], strict=True))
    found = []
    for layer in range(1, last):
        mine = {part: by_name[f"blocks.{layer}.attn.hook_{part}"] for part in PARTS}
        found.append(_at_the_stream(intact(model), layer, run, mine))
    return [*found, rearrange(slopes[-1], "b p d -> b p 1 d")]


def _at_the_stream(
    bridge: Bridge,
    layer: int,
    run: Cache,
    slopes: Mapping[Part, Float[Tensor, "batch pos reader d_head"]],
) -> Float[Tensor, "batch pos receiver d_model"]:
    """Gradients at q, k and v carried back to the residual stream, one for each reader alone."""
    x = run[f"blocks.{layer}.hook_resid_pre"].detach()
    carried = []
    for part in PARTS:
        heads = _readers(bridge, layer, part)
        weights = torch.stack([_WEIGHTS[part](bridge, head) for head in heads])
        _check_reads(bridge, layer, run, part, x, weights)
        carried.append(einsum(slopes[part], weights, "b p h e, h d e -> b p h d"))
    towards = torch.cat(carried, 2)
    with torch.enable_grad():
        read = repeat(x, "b p d -> b p r d", r=towards.shape[2]).requires_grad_()
        normalised = input_norm(bridge, layer, read, "ln1")
    (at_stream,) = torch.autograd.grad(normalised, read, towards)
    return at_stream


def _check_reads(
    bridge: Bridge,
    layer: int,
    run: Cache,
    part: Part,
    x: Float[Tensor, "batch pos d_model"],
    weights: Float[Tensor, "reader d_model d_head"],
) -> None:
    """Raise NotApplicable where q, k or v is not what its weights make of the stream."""
    heads = _readers(bridge, layer, part)
    biases = torch.stack([_BIASES[part](bridge, head) for head in heads])
    theirs = run[f"blocks.{layer}.attn.hook_{part}"].detach()
    normalised = input_norm(bridge, layer, x, "ln1")
    ours = einsum(normalised, weights, "b p d, h d e -> b p h e") + biases
    _check_close(ours, theirs, f"{part} of layer {layer} is no projection of its normalised input")


def _check_close(ours: Tensor, theirs: Tensor, fault: str) -> None:
    if float((ours - theirs).abs().max()) > CLOSE * max(float(theirs.abs().max()), CLOSE):
        raise NotApplicable(f"{fault}, or is edited; edges are not known here, use path_effect")


def _readers(bridge: Bridge, layer: int, part: Part) -> list[Head]:
    """The heads of a layer with an input of their own: of a group, the first stands for k and v."""
    heads = [Head(layer, index) for index in range(int(bridge.cfg.n_heads))]
    if part == "q":
        return heads
    first: dict[int, Head] = {}
    for head in heads:
        first.setdefault(value_head(bridge, head), head)
    return list(first.values())
