"""Tokens that latents raise and lower: by ablating them, and by the weights alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from claimlens.circuits.figures import Bar, Bars
from claimlens.circuits.kernels.bridge import unembedding
from claimlens.circuits.kernels.cache import Model, intact
from claimlens.circuits.kernels.latent_logits import written
from claimlens.circuits.kernels.sae import Sae, ablate_latents, check_latents
from claimlens.circuits.metrics import end_logits
from claimlens.circuits.parts import Position, Prompts
from claimlens.circuits.verdict import NotMeasured

FLOOR = -9.0
"""Mean log probability under which a token is left out [nats]: the floor of seed 003."""
COMMON = 100
"""A token that occurs more often than this counts as common: the bound of seed 003."""
Ranked = tuple[tuple[int, float], ...]
"""Token ids with their boosts, the strongest first."""


@dataclass(frozen=True)
class Boosts:
    """The tokens that are raised and lowered most."""

    raised: Ranked
    lowered: Ranked


def ablation_boosts(
    model: Model,
    prompts: Prompts,
    sae: Sae,
    latents: Sequence[int],
    at: str | Position = "END",
) -> Float[Tensor, "batch d_vocab"]:
    """How much these latents raise each token's log probability after END [nats].

    The model as it is less the model with them ablated at `at`, the rest raw (seed 003,
    get_direction_logit_and_logprob_boost). 0 where none of them fires: take `active_prompts`.
    """
    without = ablate_latents(model, sae, latents, at)
    return log_probs(model, prompts) - log_probs(without, prompts)


def weight_boosts(
    model: Model, sae: Sae, latents: Sequence[int]
) -> Float[Tensor, "latent d_vocab"]:
    """W_dec (W_out) W_U: what a unit of each latent adds to every logit, over the vocabulary's mean
    [logits x final scale / activation].

    The direct path only (seed 003, get_direction_boosted_tokens). Raises NotApplicable where a
    latent does not add to the logits: see `written`.
    """
    return written(model, sae)[check_latents(sae, latents)] @ unembedding(intact(model))


def log_probs(model: Model, prompts: Prompts) -> Float[Tensor, "batch d_vocab"]:
    """Log probability of every token after END [nats]."""
    return end_logits(model, prompts).log_softmax(-1)


def token_counts(batches: Iterable[Prompts], d_vocab: int) -> Int[Tensor, " d_vocab"]:
    """How often each token occurs in a stream of prompts, BOS included, padding left out."""
    counts = torch.zeros(d_vocab, dtype=torch.long)
    for prompts in batches:
        index = torch.arange(prompts.tokens.shape[1], device=prompts.tokens.device)
        tokens = prompts.tokens[index < prompts.lengths[:, None]].cpu()
        counts += torch.bincount(tokens, minlength=d_vocab)
    return counts


def eligible(
    mean_log_probs: Float[Tensor, " d_vocab"] | None = None,
    counts: Int[Tensor, " d_vocab"] | None = None,
    floor: float = FLOOR,
    over: int = COMMON,
) -> Bool[Tensor, " d_vocab"]:
    """The tokens that take part: not under the floor, and more than `over` times in the data.

    Give `mean_log_probs` (of the intact model) for the one, `counts` for the other, or both.
    Raises NotMeasured where no token is left.
    """
    if mean_log_probs is None and counts is None:
        raise ValueError("give mean_log_probs for the floor, counts for the filter, or both")
    kept = [] if mean_log_probs is None else [(mean_log_probs >= floor)]
    if counts is not None:
        kept.append((counts > over).to(kept[0].device if kept else counts.device))
    found = torch.stack(kept).all(0)
    if not bool(found.any()):
        raise NotMeasured(
            f"no token has a mean log probability of at least {floor:g} and occurs more than "
            f"{over} times; count on more data, or lower the bounds"
        )
    return found


def rank_tokens(
    boosts: Float[Tensor, " d_vocab"], among: Bool[Tensor, " d_vocab"], k: int = 15
) -> Boosts:
    """The `k` tokens of `among` that are raised most and lowered most; fewer where there are fewer.

    Raises ValueError for a `k` that the vocabulary does not have.
    """
    if not 1 <= k <= len(boosts):
        raise ValueError(f"k={k}: expected 1 to {len(boosts)}, the size of the vocabulary")
    among = among.to(boosts.device)  # counts are made on the CPU
    return Boosts(_top(boosts, among & (boosts > 0), k), _top(-boosts, among & (boosts < 0), k, -1))


def boost_margin(
    boosts: Float[Tensor, "batch d_vocab"], token: int, among: Bool[Tensor, " d_vocab"]
) -> Float[Tensor, " batch"]:
    """How far a token is raised above the most raised other token of `among`, prompt by prompt.

    The other is chosen by its mean. Raises NotMeasured where there is no other, or where the token
    itself is not in `among`.
    """
    if not bool(among[token]):
        raise NotMeasured(f"token {token} is under the floor or too rare, so it has no place here")
    others = among.to(boosts.device, copy=True)
    others[token] = False
    if not bool(others.any()):
        raise NotMeasured(f"token {token} is the only one left: there is nothing to compare with")
    best = int(torch.where(others, boosts.mean(0), -torch.inf).argmax())
    return boosts[:, token] - boosts[:, best]


def boost_bars(title: str, boosts: Boosts, word: Callable[[int], str]) -> Bars:
    """The raised and the lowered tokens, by name: the strongest first, the lowered last."""
    rows = (*boosts.raised, *reversed(boosts.lowered))
    return Bars(title, "boost", [Bar(word(token), value) for token, value in rows])


def _top(boosts: Tensor, among: Tensor, k: int, sign: int = 1) -> Ranked:
    index = among.nonzero()[:, 0]
    values, order = boosts[index].sort(descending=True)
    tokens = index[order][:k].tolist()
    return tuple((t, sign * v) for t, v in zip(tokens, values[:k].tolist(), strict=True))
