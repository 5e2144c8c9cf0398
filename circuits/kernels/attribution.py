"""Direct effects of a head on the logits, with the final LayerNorm's scale frozen."""

from __future__ import annotations

from typing import Literal

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.ablate import z_of
from claimlens.circuits.kernels.attention import pairs
from claimlens.circuits.kernels.bridge import (
    check_direct,
    output_weights,
    unembedding,
    value_head,
)
from claimlens.circuits.kernels.cache import Model, cache, intact
from claimlens.circuits.metrics import answer_tokens
from claimlens.circuits.parts import Head, Position, Prompts

FINAL_SCALE = "ln_final.hook_scale"


def attribute(
    model: Model,
    prompts: Prompts,
    head: Head,
    toward: Literal["answer", "logit_diff"],
    scale_of: Model | None = None,
) -> Float[Tensor, " batch"]:
    """Direct logit attribution of `head` at END [logits]: its output over the final scale, . W_U.

    Toward the answer's logit (relative to the vocabulary's mean) or toward the logit difference
    answer - wrong answer (Wang et al. 2022, section 3.1; Elhage et al. 2021). With `scale_of`, the
    final scale is that of another run: an ablation shrinks the scale and so raises every head's
    attribution (Rushing & Nanda 2024), which is no change of the head.
    """
    check_direct(intact(model), head)
    answer, wrong = answer_tokens(prompts)
    unembed = unembedding(intact(model)).T
    direction = unembed[answer] - unembed[wrong] if toward == "logit_diff" else unembed[answer]
    z = _rows(z_of(model, prompts, head), prompts)
    scaled = model if scale_of is None else scale_of
    scale = _rows(cache(scaled, prompts, [FINAL_SCALE])[FINAL_SCALE], prompts)
    written = einsum(
        z, output_weights(intact(model), head), "batch d_head, d_head d_model -> batch d_model"
    )
    return einsum(written / scale, direction, "batch d_model, batch d_model -> batch")


def moved(
    model: Model, prompts: Prompts, head: Head, dst: str | Position, src: str | Position
) -> Float[Tensor, " batch"]:
    """Direct effect on the logit of the token at `src` of what `head` moves from it [logits].

    Attention from `dst` to `src`, times the value at `src` through W_O and the frozen final scale,
    on the unembedding of the token at `src`: positive where the head copies what it looks at,
    negative where it suppresses it. Slots are paired and averaged.
    """
    check_direct(intact(model), head)
    name, values = f"blocks.{head.layer}.attn.hook_pattern", f"blocks.{head.layer}.attn.hook_v"
    run = cache(model, prompts, [name, values, FINAL_SCALE])
    weight = pairs(run[name][:, head.index], prompts, dst, src)
    to, at = prompts.at(dst), prompts.at(src)
    rows = torch.arange(len(prompts), device=weight.device)[:, None]
    value = run[values][:, :, value_head(intact(model), head)][rows, at]
    written = einsum(
        value,
        output_weights(intact(model), head),
        "batch slot d_head, d_head d_model -> batch slot d_model",
    )
    own = unembedding(intact(model)).T[prompts.tokens[rows, at]]
    effect = einsum(
        written / run[FINAL_SCALE][rows, to],
        own,
        "batch slot d_model, batch slot d_model -> batch slot",
    )
    return (weight * effect).mean(1)


def _rows(value: Float[Tensor, "batch pos d"], prompts: Prompts) -> Float[Tensor, "batch d"]:
    end = prompts.at("END")[:, 0]
    return value[torch.arange(len(prompts), device=value.device), end]
