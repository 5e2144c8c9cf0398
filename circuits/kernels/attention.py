"""Attention from one labelled position to another."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.bridge import check_head
from claimlens.circuits.kernels.cache import Model, cache, intact
from claimlens.circuits.parts import Head, Position, Prompts


def attention(
    model: Model, prompts: Prompts, head: Head, dst: str | Position, src: str | Position
) -> Float[Tensor, " batch"]:
    """Attention probability of `head` from `dst` to `src`, one value per prompt [probability].

    Where the labels stand for several positions, slots are paired and averaged: from REPEAT to
    FIRST+1 this is the induction score of the TransformerLens demo (seed 002), over labelled
    pairs instead of a diagonal.
    """
    check_head(intact(model), head)
    name = f"blocks.{head.layer}.attn.hook_pattern"
    pattern = cache(model, prompts, [name])[name][:, head.index]
    return pairs(pattern, prompts, dst, src).mean(1)


def pairs(
    pattern: Float[Tensor, "batch dst src"],
    prompts: Prompts,
    dst: str | Position,
    src: str | Position,
) -> Float[Tensor, "batch slot"]:
    """Entries of an attention pattern at paired slots; a single slot pairs with every other."""
    rows = torch.arange(len(prompts), device=pattern.device)[:, None]
    return pattern[rows, prompts.at(dst), prompts.at(src)]
