"""Metrics: one value per prompt, never a silent mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from claimlens.circuits.kernels.cache import Model, cache
from claimlens.circuits.parts import Head, Position, Prompts


def logit_diff(model: Model, prompts: Prompts) -> Float[Tensor, " batch"]:
    """Logit of the answer minus logit of the wrong answer, after END [logits].

    The metric of Wang et al. 2022, section 2.
    """
    answer, wrong = answer_tokens(prompts)
    logits = end_logits(model, prompts)
    rows = torch.arange(len(prompts), device=logits.device)
    return logits[rows, answer] - logits[rows, wrong]


def correct(model: Model, prompts: Prompts) -> Bool[Tensor, " batch"]:
    """Whether the answer's logit is above the wrong answer's: its mean is the accuracy."""
    return logit_diff(model, prompts) > 0


def end_logits(model: Model, prompts: Prompts) -> Float[Tensor, "batch d_vocab"]:
    """Logits after the END position."""
    logits = cache(model, prompts).logits
    rows = torch.arange(len(prompts), device=logits.device)
    return logits[rows, prompts.at("END")[:, 0]]


def loss(
    model: Model, prompts: Prompts, at: str | Position | None = None
) -> Float[Tensor, " batch"]:
    """Mean next-token loss of each prompt [nats/token].

    With `at`, only the predictions *of* the tokens at that label (from the position before each);
    without, of every token but the first.
    """
    log_probs = cache(model, prompts).logits[:, :-1].log_softmax(-1)
    nats = -log_probs.gather(-1, prompts.tokens[:, 1:, None])[..., 0]
    if at is not None:
        predicted = prompts.at(at)
        if bool((predicted == 0).any()):
            raise ValueError(f"position {at} includes the first token, which nothing predicts")
        return nats.gather(1, predicted - 1).mean(1)
    inside = torch.arange(1, prompts.tokens.shape[1], device=nats.device) < prompts.lengths[:, None]
    return (nats * inside).sum(1) / inside.sum(1)


def margin_over_others(
    scores: Float[Tensor, "batch layer head"], heads: Sequence[Head]
) -> Float[Tensor, " batch"]:
    """How far the weakest of `heads` is above the strongest other head, prompt by prompt.

    Weakest and strongest by mean score. Choosing them on the same prompts can only lower the
    margin, so an interval above 0 shows that these heads are the top of all.
    """
    if not heads:
        raise ValueError("no heads given; a superlative needs at least one head in its role")
    flat = rearrange(scores, "batch layer head -> batch (layer head)")
    mine = [head.layer * scores.shape[2] + head.index for head in heads]
    means = flat.mean(0)
    others = torch.ones_like(means, dtype=torch.bool)
    others[mine] = False
    weakest = mine[int(means[mine].argmin())]
    strongest = int(torch.where(others, means, -torch.inf).argmax())
    return flat[:, weakest] - flat[:, strongest]


def answer_tokens(prompts: Prompts) -> tuple[Int[Tensor, " batch"], Int[Tensor, " batch"]]:
    """Token ids of the answers and wrong answers; raises ValueError where there are none."""
    if prompts.answer is None or prompts.wrong_answer is None:
        raise ValueError("these prompts have no answers; use a prompt set with answers, as `ioi`")
    return prompts.answer, prompts.wrong_answer
