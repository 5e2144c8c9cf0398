"""Attention from one labelled position to another, as probability or as score."""

from __future__ import annotations

import re
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.bridge import check_head
from claimlens.circuits.kernels.cache import Model, cache, intact
from claimlens.circuits.parts import Head, Position, Prompts
from claimlens.circuits.verdict import NotMeasured

Weight = Literal["probability", "score"]
"""Attention after the softmax [probability], or before it [nats, up to a constant per dst]."""

_TERM = r"[A-Za-z][A-Za-z0-9_]*(?:[+-]\d+)?"
_SUM = re.compile(rf"\s*[+-]?\s*{_TERM}(?:\s*[+-]\s*{_TERM})*\s*")
_HOOK = {"probability": "hook_pattern", "score": "hook_attn_scores"}


def attention(
    model: Model, prompts: Prompts, head: Head, dst: str | Position, src: str | Position
) -> Float[Tensor, " batch"]:
    """Attention probability of `head` from `dst` to `src`, one value per prompt [probability].

    Where the labels stand for several positions, slots are paired and averaged: from REPEAT to
    FIRST+1 this is the induction score of the TransformerLens demo (seed 002), over labelled
    pairs instead of a diagonal.
    """
    return _entries(model, prompts, head, dst, src, "probability").mean(1)


def attention_score(
    model: Model, prompts: Prompts, head: Head, dst: str | Position, src: str | Position
) -> Float[Tensor, " batch"]:
    """Attention score of `head` from `dst` to `src`, before the softmax, one value per prompt.

    Slots are paired and averaged as in `attention`. A softmax sees differences between the scores
    of one `dst` only. Raises NotMeasured where `src` lies after `dst`: that entry is masked.
    """
    return _entries(model, prompts, head, dst, src, "score").mean(1)


def attention_sum(
    model: Model,
    prompts: Prompts,
    head: Head,
    terms: str,
    dst: str | Position = "END",
    of: Weight = "probability",
) -> Float[Tensor, " batch"]:
    """A signed sum of attention from `dst`, as "IO-S1-S2", one value per prompt.

    A number right after a label is its offset: "IO-S1+1" is IO less what follows S1. From seed
    000, `get_head_IO_minus_S_attn` ("IO-S1-S2") and `stare_at_attention_and_head_pat` ("S1+IO-S2"
    and others). Raises ValueError for what is not such a sum, NotMeasured for an unknown label.
    """
    signed = (
        sign * _entries(model, prompts, head, dst, src, of).mean(1) for sign, src in parsed(terms)
    )
    return torch.stack(list(signed)).sum(0)


def parsed(terms: str) -> list[tuple[int, str]]:
    """The signs and positions of a signed sum: "IO-S1+1" is [(1, "IO"), (-1, "S1+1")]."""
    if not _SUM.fullmatch(terms):
        raise ValueError(f"not a signed sum of positions: {terms!r}; expected one as 'IO-S1-S2'")
    found = re.findall(rf"([+-]?)\s*({_TERM})", terms)
    return [(-1 if sign == "-" else 1, src) for sign, src in found]


def pairs(
    pattern: Float[Tensor, "batch dst src"],
    prompts: Prompts,
    dst: str | Position,
    src: str | Position,
) -> Float[Tensor, "batch slot"]:
    """Entries of an attention pattern at paired slots; a single slot pairs with every other."""
    rows = torch.arange(len(prompts), device=pattern.device)[:, None]
    return pattern[rows, prompts.at(dst), prompts.at(src)]


def _entries(
    model: Model,
    prompts: Prompts,
    head: Head,
    dst: str | Position,
    src: str | Position,
    of: Weight,
) -> Float[Tensor, "batch slot"]:
    check_head(intact(model), head)
    if of == "score" and bool((prompts.at(src) > prompts.at(dst)).any()):
        raise NotMeasured(
            f"{src} lies after {dst} in some prompt: that score is masked, so it has no value"
        )
    name = f"blocks.{head.layer}.attn.{_HOOK[of]}"
    return pairs(cache(model, prompts, [name])[name][:, head.index], prompts, dst, src)
