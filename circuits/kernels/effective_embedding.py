"""Effective embeddings: what later layers read at a token, from the token alone.

The MLP of layer 0 acts as a second embedding: what it writes depends almost only on the token. A
circuit that is read off the weights is therefore read between effective embeddings, not between
rows of W_E.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.kernels.bridge import (
    Bridge,
    all_heads,
    attention_bias,
    embedding,
    embeds_positions,
    input_norm,
    mlp,
    output_norm,
    output_weights,
    parallel,
    unembedding,
    value_bias,
    value_weights,
)
from claimlens.circuits.kernels.cache import Edit, Model, cache, edited, intact
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotApplicable

Variant = Literal["W_E", "W_E+MLP0", "W_EE", "W_EE-W_E", "MLP0", "W_U"]
"""The named embeddings of `effective_embedding`."""
AFTER_LAYER_0 = "blocks.0.hook_resid_post"
BATCH = 4096
"""Tokens at a time: the hidden layer of a large MLP over a whole vocabulary is gigabytes."""


def effective_embedding(
    model: Model, variant: Variant = "W_E+MLP0", tokens: Int[Tensor, " token"] | None = None
) -> Float[Tensor, "token d_model"]:
    """One embedding of each token, or of the whole vocabulary [residual stream, no position].

    W_E        the embedding
    W_E+MLP0   W_E + MLP0(ln2(W_E)), without attention (seed 000, `get_copying_scores`)
    W_EE       the residual stream after layer 0 where attention 0 looks at the token itself only:
               W_E + ATT0 + MLP0 (seed 001, "including MLPs"; McDougall et al. 2023, section 3)
    W_EE-W_E   what layer 0 adds to it: ATT0 + MLP0 (seed 001, "W_EE0A")
    MLP0       the part of W_EE that MLP0 writes (seed 001, "only MLPs")
    W_U        the unembedding's columns: the direction that predicts the token

    Attention 0 counts with its biases, which the notebook leaves out: they are the same for every
    token. With parallel attention and MLP (GPT-NeoX), MLP0 reads W_E alone in every variant.
    Raises ValueError for an unknown variant.
    """
    if variant not in get_args(Variant):
        raise ValueError(f"no embedding {variant!r}; known are {', '.join(get_args(Variant))}")
    bridge = intact(model)
    if variant == "W_U":
        columns = unembedding(bridge).T
        return columns if tokens is None else columns[tokens]
    rows = embedding(bridge)
    chosen = rows if tokens is None else rows[tokens]
    parts = (chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH))
    return torch.cat([_embedded(bridge, variant, part) for part in parts])


def require_mlp0(model: Model) -> None:
    """Raise NotApplicable where MLP0 writes nothing, so that W_E is the effective embedding."""
    bridge = intact(model)
    if not bool(_mlp0(bridge, embedding(bridge)[:BATCH]).any()):
        raise NotApplicable("MLP0 of this model writes nothing: its W_E is all there is to read")


def one_token_residual(model: Model, prompts: Prompts) -> Float[Tensor, "batch d_model"]:
    """The residual stream after layer 0, run on nothing but the token at END of each prompt.

    Where positions are embedded, that embedding is set to zero. A single token can only look at
    itself, so this is "W_EE" by another way: one forward pass in place of the weights.
    """
    tokens = source_tokens(prompts)[:, None]
    start = torch.zeros_like(tokens)
    alone = Prompts(tokens, torch.ones_like(start[:, 0]), {"END": start}, prompts.templates)
    unplaced = Edit("hook_pos_embed", torch.zeros_like, "no position")
    run = edited(model, unplaced) if embeds_positions(intact(model)) else model
    return cache(run, alone, [AFTER_LAYER_0])[AFTER_LAYER_0][:, 0]


def one_token_gap(model: Model, prompts: Prompts) -> Float[Tensor, " batch"]:
    """How far "W_EE" from the weights is from `one_token_residual` [share of its length]."""
    ran = one_token_residual(model, prompts)
    found = effective_embedding(model, "W_EE", source_tokens(prompts))
    gaps: Tensor = (found - ran).norm(dim=1) / ran.norm(dim=1)
    return gaps


def source_tokens(prompts: Prompts) -> Int[Tensor, " batch"]:
    """The token at END of each prompt: what a question about weights is asked of."""
    rows = torch.arange(len(prompts), device=prompts.tokens.device)
    return prompts.tokens[rows, prompts.at("END")[:, 0]]


def _embedded(
    model: Bridge, variant: Variant, x: Float[Tensor, "token d_model"]
) -> Float[Tensor, "token d_model"]:
    if variant == "W_E":
        return x
    if variant == "W_E+MLP0":
        return x + _mlp0(model, x)
    attended = x + _self_attention0(model, x)
    written = _mlp0(model, x if parallel(model) else attended)
    if variant == "MLP0":
        return written
    return attended + written if variant == "W_EE" else attended - x + written


def _mlp0(model: Bridge, x: Float[Tensor, "token d_model"]) -> Float[Tensor, "token d_model"]:
    return output_norm(model, 0, mlp(model, 0, input_norm(model, 0, x, "ln2")), "mlp")


def _self_attention0(
    model: Bridge, x: Float[Tensor, "token d_model"]
) -> Float[Tensor, "token d_model"]:
    """What layer 0's attention writes where every head looks at the token itself."""
    read = input_norm(model, 0, x, "ln1")
    written = attention_bias(model, 0).expand_as(x)
    for head in (head for head in all_heads(model) if head.layer == 0):
        value = read @ value_weights(model, head) + value_bias(model, head)
        written = written + einsum(
            value, output_weights(model, head), "token d_head, d_head d_model -> token d_model"
        )
    return output_norm(model, 0, written, "attn")
