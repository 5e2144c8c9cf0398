"""How much every head looks one token back, at the same token, or after it: one forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor

from claimlens.circuits.kernels.attention import pairs
from claimlens.circuits.kernels.bridge import check_head
from claimlens.circuits.kernels.cache import Model, cache, intact
from claimlens.circuits.parts import Head, Position, Prompts
from claimlens.circuits.verdict import NotMeasured

Kind = Literal["previous_token", "duplicate_token", "induction"]
Share = Literal["destination", "attention"]
Pattern = Float[Tensor, "batch head dst src"]


def label_scores(
    model: Model, prompts: Prompts, dst: str | Position, src: str | Position
) -> Float[Tensor, "batch layer head"]:
    """Attention of every head from `dst` to `src`, slots paired and averaged [probability].

    On repeated tokens (REPEAT, FIRST+1) is induction, (REPEAT, FIRST) duplicate token and
    (REPEAT, REPEAT-1) previous token; REPEAT leaves out the first repeated token.
    """
    scores = [
        torch.stack([pairs(own, prompts, dst, src).mean(1) for own in pattern.unbind(1)], dim=1)
        for pattern in _patterns(model, prompts)
    ]
    return torch.stack(scores, dim=1)


def stripe(
    model: Model, prompts: Prompts, back: int, first: int | None = None
) -> Float[Tensor, "batch layer head"]:
    """Mean attention of every head `back` tokens back, from position `first` on [probability].

    Destinations are `first` (without it `back`, the earliest that has a source) to the last token
    of each prompt. The induction score of the TransformerLens demo (seed 002,
    induction_score_hook) is `back` = half - 1 on two halves without BOS: its stripe begins at
    position half - 1, one before the repetition does, looking at position 0. `first` = half + 1
    (with BOS half + 2) leaves out what cannot be induction. Raises ValueError for a `back` or
    `first` that no position has.
    """
    width, start = prompts.tokens.shape[1], back if first is None else first
    shortest = int(prompts.lengths.min())
    if not 0 <= back <= start < shortest:
        raise ValueError(
            f"no stripe {back} tokens back from position {start}: expected 0 <= back <= first < "
            f"{shortest}, the length of the shortest prompt"
        )
    dst = torch.arange(back, width, device=prompts.tokens.device)
    counted = (dst >= start) & (dst < prompts.lengths[:, None])
    weight = counted / counted.sum(1, keepdim=True)
    scores = [
        einsum(
            pattern.diagonal(offset=-back, dim1=-2, dim2=-1),
            weight.to(pattern.dtype),
            "batch head dst, batch dst -> batch head",
        )
        for pattern in _patterns(model, prompts)
    ]
    return rearrange(scores, "layer batch head -> batch layer head")


def head_scores(
    model: Model,
    prompts: Prompts,
    kind: Kind,
    per: Share = "destination",
    *,
    exclude_bos: bool = False,
    exclude_self: bool = False,
) -> Float[Tensor, "batch layer head"]:
    """How much of its attention every head gives to the sources of its kind [probability].

    previous_token: the token before; duplicate_token: earlier copies of this token; induction: the
    tokens after earlier copies. `per="destination"` averages over the destinations that have such
    a source; `per="attention"` divides by all attention, as transformer_lens' `detect_head` does
    with "mul", so that destinations without a source count as misses. `exclude_bos` leaves out
    attention to position 0 (whatever stands there), `exclude_self` that to the own position.
    Raises NotMeasured where a prompt has no such pair.
    """
    wanted = matches(prompts, kind)
    if not bool(wanted.any(2).any(1).all()):
        raise NotMeasured(f"some prompt has no {kind} pair: nothing could be attended to")
    counted = _counted(prompts, exclude_bos, exclude_self)
    scores = []
    for pattern in _patterns(model, prompts):
        kept = pattern * counted[:, None]
        hit = reduce(kept * wanted[:, None], "batch head dst src -> batch head", "sum")
        if per == "destination":
            scores.append(hit / wanted.any(2).sum(1, keepdim=True))
        else:
            scores.append(hit / reduce(kept, "batch head dst src -> batch head", "sum"))
    return torch.stack(scores, dim=1)


def matches(prompts: Prompts, kind: Kind) -> Bool[Tensor, "batch dst src"]:
    """The pairs of positions that a head of this kind connects, padding left out."""
    width, device = prompts.tokens.shape[1], prompts.tokens.device
    index = torch.arange(width, device=device)
    inside = index < prompts.lengths[:, None]
    if kind == "previous_token":
        found = (index[:, None] - 1 == index)[None] & inside[:, :, None]
        return found & inside[:, None, :]
    same = prompts.tokens[:, :, None] == prompts.tokens[:, None, :]
    earlier = same & (index[:, None] > index) & inside[:, :, None]
    if kind == "duplicate_token":
        return earlier
    after = torch.zeros_like(earlier)
    after[:, :, 1:] = earlier[:, :, :-1]
    return after


def half_of(prompts: Prompts) -> int:
    """How many tokens are repeated: the distance from FIRST to REPEAT.

    Raises NotMeasured where it is not the same in every slot: these are no repeated tokens.
    """
    found = set((prompts.at("REPEAT") - prompts.at("FIRST")).flatten().tolist())
    if len(found) != 1 or (distance := int(found.pop())) < 2:
        raise NotMeasured("REPEAT is not at one distance from FIRST; use repeated-token prompts")
    return distance


def head_pattern(model: Model, prompts: Prompts, head: Head) -> Float[Tensor, "batch dst src"]:
    """The whole attention pattern of one head; rows of padding are not meaningful."""
    check_head(intact(model), head)
    name = _name(head.layer)
    return cache(model, prompts, [name])[name][:, head.index]


def _patterns(model: Model, prompts: Prompts) -> Iterator[Pattern]:
    """The attention of every layer, all from one run."""
    names = [_name(layer) for layer in range(int(intact(model).cfg.n_layers))]
    run = cache(model, prompts, names)
    for name in names:
        yield run[name]


def _name(layer: int) -> str:
    return f"blocks.{layer}.attn.hook_pattern"


def _counted(prompts: Prompts, no_bos: bool, no_self: bool) -> Bool[Tensor, "batch dst src"]:
    width, device = prompts.tokens.shape[1], prompts.tokens.device
    counted = torch.ones(width, width, dtype=torch.bool, device=device)
    if no_bos:
        counted[:, 0] = False
    if no_self:
        counted.fill_diagonal_(False)
    inside = torch.arange(width, device=device) < prompts.lengths[:, None]
    return counted & inside[:, :, None]
