"""Copy-suppression-preserving ablation: how much of a head's effect is copy suppression?

McDougall et al. 2023 (arXiv:2310.04625), section 3.3: take everything from a head but what it
would do if it only suppressed tokens that are predicted and that it attends to, and see how much
of the effect of a mean ablation is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from claimlens.circuits.kernels.bridge import (
    all_heads,
    final_norm,
    unembedding_bias,
    weights_version,
)
from claimlens.circuits.kernels.cache import Model, edit_keys, intact
from claimlens.circuits.kernels.direct import (
    LOOKS,
    OUTPUT,
    STREAM,
    Change,
    DirectRun,
    Score,
    after_places,
    attended_tokens,
    by_layer,
    direct_run,
    inside,
    swept,
    wide,
)
from claimlens.circuits.kernels.memory import recalled
from claimlens.circuits.metrics import margin_over_others
from claimlens.circuits.parts import Head, Position, Prompts
from claimlens.circuits.verdict import NotMeasured

Preserve = Literal["copy suppression", "ov", "qk", "nothing"]
"""What is left of a head beside its mean over the prompts.

"copy suppression": of what is moved from the sources whose token is most predicted at the
destination, the part against the source token's unembedding; "ov": that part from every source;
"qk": all that is moved, from the most predicted sources; "nothing": mean ablation.
"""
LEAST = 1e-4
"""KL of a mean ablation that is no effect at all [nats/token]."""
SHARE = 0.05
"""The share of sources, the most predicted ones, that keep their part (as in the paper)."""


def cspa_kl(
    model: Model,
    prompts: Prompts,
    head: Head,
    preserve: Preserve = "copy suppression",
    *,
    share: float = SHARE,
    at: str | Position | None = None,
) -> Float[Tensor, " batch"]:
    """KL(clean || ablated) of the next-token distributions [nats/token], the mean over a prompt.

    Over the predictions made *after* the tokens at a label, or after every token but the first.
    See `cspa_kls`.
    """
    return _kls(model, prompts, [head], preserve, share, at)[:, 0]


def cspa_kls(
    model: Model,
    prompts: Prompts,
    preserve: Preserve = "copy suppression",
    *,
    share: float = SHARE,
    at: str | Position | None = None,
) -> Float[Tensor, "batch layer head"]:
    """The same for every head, from one forward pass [nats/token].

    A direct ablation: the head's output at the end of the residual stream is replaced, the final
    scale and all other components are as they were. The base is the mean of the head's output at
    that position over the prompts; each source stands for its attention's share of the base, and
    what it moves beyond that is projected on its own token's unembedding, the negative part kept
    (McDougall et al. 2023, section 3.3 and the authors' code). How much a source's token is
    predicted is read off the residual stream that enters the head's layer, through the final
    normalisation and the unembedding; equal tokens are taken together. BOS is a source like any
    other, function words are not left out. Raises NotMeasured where a position is reached by
    fewer than two prompts, NotApplicable where the model normalises what its heads write.
    """

    def computed() -> Tensor:
        return by_layer(_kls(model, prompts, all_heads(intact(model)), preserve, share, at), model)

    bridge, edits = intact(model), edit_keys(model)
    if None in edits:
        return computed()
    places = after_places(prompts, at)[0]
    run = (id(bridge), weights_version(bridge), edits, id(prompts.tokens), id(prompts.moved))
    key = ("cspa_kls", *run, repr(places.tolist()), preserve, share)
    return recalled(key, (model, prompts), computed)


def share_kept(
    ablated: Float[Tensor, "batch layer head"],
    mean: Float[Tensor, "batch layer head"],
    least: float = LEAST,
) -> Float[Tensor, "batch layer head"]:
    """1 - KL(ablated) / KL(mean ablation), as one value per prompt [fraction].

    The mean over the prompts is the ratio of the means, as in the paper; each prompt's value is
    that plus how far it pulls it away (the linear influence), so that the spread of the values is
    that of the ratio. Where the mean ablation itself does less than `least` [nats/token] there is
    nothing to keep: 0, whatever the ratio of two such numbers may be.
    """
    effect = mean.mean(0)
    share = 1 - ablated.mean(0) / effect
    each = share + (mean - ablated - share * mean) / effect
    return torch.where(effect >= least, each, 0.0)


def first_over_others(
    scores: Float[Tensor, "batch layer head"], heads: Sequence[Head]
) -> Float[Tensor, " batch"]:
    """How far the first of `heads` is above the strongest head that is none of them.

    For a role of which one head is published as the clearest case, as L10H7 of GPT-2.
    """
    others = scores.clone()
    for head in heads[1:]:
        others[:, head.layer, head.index] = -torch.inf
    return margin_over_others(others, heads[:1])


def predicted_sources(run: DirectRun, layer: int, share: float) -> Bool[Tensor, "batch dst src"]:
    """The sources whose tokens are the most predicted ones before `layer`, at each destination.

    Of the n sources up to a destination, those that hold one of the ceil(share n) tokens with the
    highest logits among them.
    """
    tokens = attended_tokens(run.prompts)
    lens = wide(final_norm(run.bridge, run.stream(layer)))
    logits = einsum(lens, run.own, "batch dst d, batch src d -> batch dst src")
    logits = logits + unembedding_bias(run.bridge)[tokens][:, None]
    first = (tokens[:, :, None] == tokens[:, None]).int().argmax(-1)
    logits = logits.gather(2, first[:, None].expand_as(logits))  # equal tokens, equal to the bit
    index = torch.arange(tokens.shape[1], device=tokens.device)
    causal = (index[:, None] >= index).expand_as(logits)
    distinct = (first == index)[:, None] & causal
    ranked = logits.masked_fill(~distinct, -torch.inf).sort(-1, descending=True).values
    wanted = torch.tensor([math.ceil(share * (n + 1) - 1e-9) for n in index.tolist()])
    last = (wanted - 1).to(tokens.device).expand(len(tokens), -1)[..., None]
    return causal & (logits >= ranked.gather(-1, last))


def check_preserve(preserve: str) -> None:
    """Raise ValueError where `preserve` names no part."""
    if preserve not in get_args(Preserve):
        known = ", ".join(get_args(Preserve))
        raise ValueError(f"preserve={preserve!r}; expected one of {known}")


def _kls(
    model: Model,
    prompts: Prompts,
    heads: list[Head],
    preserve: Preserve,
    share: float,
    at: str | Position | None,
) -> Float[Tensor, "batch head"]:
    run = direct_run(model, prompts, heads, (*LOOKS, *OUTPUT, *STREAM))
    dst, counted = after_places(prompts, at)
    _check_means(prompts, dst, counted)
    base = {head: _mean_z(run, head) for head in heads}
    kl = swept(run, heads, dst, _change(preserve, share, base), _scoring)
    return (kl * counted[:, None]).sum(-1) / counted.sum(-1, keepdim=True)


def _change(
    preserve: Preserve, share: float, base: Mapping[Head, Float[Tensor, "pos d_head"]]
) -> Change:
    check_preserve(preserve)
    if not 0 < share <= 1:
        raise ValueError(f"share={share:g}; a share of the sources above 0, up to 1")

    def change(run: DirectRun, head: Head) -> Float[Tensor, "batch dst d_model"]:
        mean = run.through_output(base[head][None], head)
        return mean + _preserved(run, head, preserve, share, mean) - run.written(head)

    return change


def _preserved(
    run: DirectRun,
    head: Head,
    preserve: Preserve,
    share: float,
    mean: Float[Tensor, "1 dst d_model"],
) -> Float[Tensor, "batch dst d_model"]:
    """What stays beside the mean, summed over the sources."""
    if preserve == "nothing":
        return torch.zeros_like(run.written(head))
    weight, moved, own = run.pattern(head), run.moved(head), run.own
    if preserve != "ov":
        weight = weight * predicted_sources(run, head.layer, share)
    if preserve == "qk":
        whole = einsum(weight, moved, "batch dst src, batch src d -> batch dst d")
        return whole - weight.sum(-1, keepdim=True) * mean
    beyond = (moved * own).sum(-1)[:, None] - einsum(
        mean[0], own, "dst d, batch src d -> batch dst src"
    )
    length = own.square().sum(-1)[:, None]
    along = torch.where(length > 0, beyond.clamp(max=0.0) / length, 0.0)
    return einsum(weight * along, own, "batch dst src, batch src d -> batch dst d")


def _mean_z(run: DirectRun, head: Head) -> Float[Tensor, "pos d_head"]:
    """Mean z at each position over the prompts that reach it."""
    counted = inside(run.prompts)[..., None]
    return (run.z(head) * counted).sum(0) / counted.sum(0).clamp(min=1)


def _check_means(prompts: Prompts, dst: Tensor, counted: Tensor) -> None:
    """Raise NotMeasured where a mean is that of one prompt: no ablation at all."""
    reached = inside(prompts).sum(0)
    alone = (reached[dst] < 2) & (counted > 0)
    if bool(alone.any()):
        raise NotMeasured(
            f"position {int(dst[alone].min())} is reached by one prompt only, whose mean is "
            "itself; use more prompts, or prompts of equal length"
        )


def _scoring(clean: Tensor, following: Tensor) -> Score:
    before = clean.log_softmax(-1)
    return lambda after: (before.exp() * (before - after.log_softmax(-1))).sum(-1)
