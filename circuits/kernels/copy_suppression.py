"""How much every head raises or lowers the logits of the tokens it attends to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.engine.direct_effects import layers, moved_along
from claimlens.circuits.engine.policy import either
from claimlens.circuits.figures import TokenMap
from claimlens.circuits.kernels.bridge import all_heads, check_direct, unembedding
from claimlens.circuits.kernels.cache import Model, intact
from claimlens.circuits.kernels.direct import LOOKS, DirectRun, by_layer, direct_run, not_bos, wide
from claimlens.circuits.parts import Head, Position, Prompts


def copy_effect(
    model: Model, prompts: Prompts, src: str | Position | None = None
) -> Float[Tensor, "batch layer head"]:
    """Attention-weighted direct effect of each head on the attended token's own logit [logits].

    Attention from END to a source, times the direct effect of the source's value on its own
    token's logit (final scale frozen), summed over all sources but BOS, or for the source `src`
    alone. Negative for copy suppressors. From the copy-suppression notebook (seed 001), where it
    is the attention-weighted effect at one destination. Raises NotApplicable where the model
    normalises what its heads write, or caps its logits.
    """
    heads = all_heads(intact(model))
    run = _looks(model, prompts, heads)
    rows, end = torch.arange(len(prompts), device=prompts.tokens.device), prompts.at("END")[:, 0]
    counted = _counted(prompts, src)
    own = run.own if src is None else wide(unembedding(run.bridge).T[prompts.tokens])
    effect = _own_effects("copy_effect", run, heads, own)
    weight = torch.stack([run.pattern(head)[rows, end] for head in heads], 1)
    return by_layer((weight * effect * (counted / run.scale[rows, end])[:, None]).sum(-1), model)


@dataclass(frozen=True, eq=False)
class SourceEffects:
    """Direct effects of each head on the own logits of the tokens it attends to [logits].

    With the attention a(q, k) from destination q to source k, and the effect d(q, k) of attending
    from q to k alone on the logit of k's token at q, each a(q, k) d(q, k) is a share of the logit:
    `per_source` sums it over q, `per_destination` over k. `per_sequence` is the mean of
    `per_source` weighted by the attention that each source is paid, sum over q of a(q, k): NaN
    where nothing that counts was attended to.
    """

    per_source: Float[Tensor, "batch layer head src"]
    per_destination: Float[Tensor, "batch layer head dst"]
    per_sequence: Float[Tensor, "batch layer head"]


@dataclass(frozen=True)
class Counted:
    """Which looks count: BOS is neither source nor destination in any of them.

    `self_attention`: also those of a token at itself; `at_least`: only those of so much attention
    [probability]; `negative_only`: only from sources whose value lowers their own token's logit.
    """

    self_attention: bool = True
    at_least: float = 0.0
    negative_only: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.at_least <= 1:
            raise ValueError(
                f"at_least={self.at_least:g}; an attention probability from 0 to 1, as 0.1"
            )


ALL = Counted()


def source_effects(model: Model, prompts: Prompts, counted: Counted = ALL) -> SourceEffects:
    """The effects of all heads, by source, by destination and by sequence, from one forward pass.

    From seed 001, `hook_fn_at_result` and `hook_fn_at_scale`: `per_source` and `per_sequence` are
    its "per_position" and "per_sequence", with its weighting: by attention, then by attention per
    source. The final scale is frozen. In shuffled prompts the logit read is that of another token.
    Raises NotApplicable as `copy_effect`.
    """
    heads = all_heads(intact(model))
    run = _looks(model, prompts, heads)
    found = _effects("source_effects", run, heads, counted)
    return SourceEffects(*(by_layer(effect, model) for effect in found))


def source_effect(
    model: Model, prompts: Prompts, head: Head, counted: Counted = ALL
) -> Float[Tensor, " batch"]:
    """`source_effects(...).per_sequence` of one head [logits]: negative for a copy suppressor."""
    run = _looks(model, prompts, [head])
    layer = [other for other in all_heads(run.bridge) if other.layer == head.layer]
    return _effects("source_effect", run, layer, counted)[2][:, head.index]


def effect_map(
    title: str,
    words: Sequence[Sequence[str]],
    effects: Float[Tensor, "batch layer head pos"],
    heads: Sequence[Head],
    unit: str = "logits",
) -> TokenMap:
    """Effects at each token, a frame for each head, all on one colour scale (seed 001).

    `unit` is that of the effects: logits for `source_effects`, nats for `loss_changes`, fraction
    where these are proportional. `words` are the strings of the first prompts' tokens, BOS
    included, without padding: as many prompts are shown. Raises ValueError where a prompt has
    more words than positions.
    """
    lengths = [len(row) for row in words]
    if len(words) > len(effects) or max(lengths, default=0) > effects.shape[-1]:
        raise ValueError(
            f"{len(words)} prompts of up to {max(lengths, default=0)} words for effects at "
            f"{len(effects)} prompts of {effects.shape[-1]} positions; give the same prompts"
        )
    frames = {
        str(head): [effects[i, head.layer, head.index, :n].tolist() for i, n in enumerate(lengths)]
        for head in heads
    }
    return TokenMap(title, unit, words, frames)


def _looks(model: Model, prompts: Prompts, heads: Sequence[Head]) -> DirectRun:
    """A run of heads that add to the logits directly."""
    for head in heads:
        check_direct(intact(model), head)
    return direct_run(model, prompts, heads, LOOKS)


def plain_own_effects(
    run: DirectRun, heads: Sequence[Head], own: Float[Tensor, "batch src d_model"]
) -> Float[Tensor, "batch head src"]:
    """What each head moves from each source along the direction `own` there, by its definition,
    head by head: the engine's referee."""
    moved = (run.moved(head) for head in heads)
    return torch.stack([einsum(x, own, "batch src d, batch src d -> batch src") for x in moved], 1)


def _own_effects(
    sweep: str, run: DirectRun, heads: Sequence[Head], own: Float[Tensor, "batch src d_model"]
) -> Float[Tensor, "batch head src"]:
    """The same, by the engine where it can."""
    return either(
        sweep, lambda: moved_along(run, heads, own), lambda: plain_own_effects(run, heads, own)
    )


def _effects(
    sweep: str, run: DirectRun, heads: Sequence[Head], counted: Counted
) -> list[Float[Tensor, "batch head *pos"]]:
    """Per source, per destination and per sequence; a layer's heads at a time."""
    mask, effects = _mask(run.prompts, counted), _own_effects(sweep, run, heads, run.own)
    if counted.negative_only:
        effects = effects.clamp(max=0.0)
    some = list(layers(heads))
    each = torch.split(effects, [len(of_layer) for of_layer in some], 1)
    found = [_effects_of(run, *one, mask, counted) for one in zip(some, each, strict=True)]
    return [torch.cat(parts, 1) for parts in zip(*found, strict=True)]


def _effects_of(
    run: DirectRun,
    heads: Sequence[Head],
    effect: Float[Tensor, "batch head src"],
    mask: Float[Tensor, "batch dst src"],
    counted: Counted,
) -> tuple[Tensor, Tensor, Tensor]:
    attention = torch.stack([run.pattern(head) for head in heads], 1)
    if counted.at_least:
        attention = torch.where(attention >= counted.at_least, attention, 0.0)
    attention = attention * mask[:, None]
    share = attention * effect[:, :, None] / run.scale[:, None]
    per_source, weight = share.sum(2), attention.sum(2)
    return per_source, share.sum(3), (per_source * weight).sum(2) / weight.sum(2)


def _mask(prompts: Prompts, counted: Counted) -> Float[Tensor, "batch dst src"]:
    """1 where a look from dst to src counts."""
    text = not_bos(prompts)
    mask = einsum(text, text, "batch dst, batch src -> batch dst src")
    if counted.self_attention:
        return mask
    return mask * (1 - torch.eye(mask.shape[1], dtype=mask.dtype, device=mask.device))


def _counted(prompts: Prompts, src: str | Position | None) -> Float[Tensor, "batch pos"]:
    """1 at the sources that count, 0 elsewhere."""
    if src is None:
        return not_bos(prompts)
    return torch.zeros_like(not_bos(prompts)).scatter(1, prompts.at(src), 1.0)
