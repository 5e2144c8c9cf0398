"""The loss when a head's direct output keeps only a part: what it writes on the source tokens'
unembeddings, the rest, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.engine.direct_losses import loss_changes_by_part
from claimlens.circuits.engine.policy import either
from claimlens.circuits.kernels.bridge import all_heads
from claimlens.circuits.kernels.cache import Model, intact
from claimlens.circuits.kernels.direct import KEEPS as KEEPS
from claimlens.circuits.kernels.direct import (
    Change,
    DirectRun,
    Score,
    after_places,
    by_layer,
    direct_run,
    inside,
    swept,
    wide,
)
from claimlens.circuits.kernels.direct import Keep as Keep
from claimlens.circuits.parts import Head, Position, Prompts
from claimlens.circuits.verdict import NotMeasured

MIN_LOSS = 1e-4
"""Clean loss of a token below which a share of it says nothing [nats]: float32 rounds logits to
5e-5."""


def loss_change(
    model: Model,
    prompts: Prompts,
    head: Head,
    keep: Keep,
    *,
    negative_only: bool = False,
    size: bool = False,
    at: str | Position | None = None,
) -> Float[Tensor, " batch"]:
    """How much the loss rises when only a part of `head`'s direct output is kept [nats/token].

    The mean over the predictions *of* the tokens at a label, or of every token but the first, as
    `loss`. With `size` the mean of its absolute value: rises and falls of the tokens don't cancel.
    See `loss_changes`.
    """
    check_keep(keep)
    dst, counted = _destinations(prompts, at)
    run = direct_run(model, prompts, [head])
    change = _changes("loss_change", run, [head], dst, [keep], negative_only)[keep][:, 0]
    return ((change.abs() if size else change) * counted).sum(1) / counted.sum(1)


def loss_changes(
    model: Model,
    prompts: Prompts,
    keep: Keep,
    *,
    negative_only: bool = False,
    proportional: bool = False,
) -> Float[Tensor, "batch layer head pos"]:
    """The same for every head and token, from one forward pass [nats]; at the token predicted.

    What a head moves from a source is split along and orthogonal to the unembedding of the token
    there. Kept is the first part ("projection"), the second ("perpendicular"), or neither, with
    the final scale and all other components as they were. With `negative_only` the projection
    holds only what lowers the source's own logit, the perpendicular part all the rest. In logits
    the changes of the two add up to that of "nothing". `proportional` divides by the clean loss
    of each token [fraction]: NotMeasured where one is below `MIN_LOSS`, as that of a token which
    the model is sure of may be exactly 0. 0 where nothing is predicted: at the first token and the
    padding.

    From seed 001, `compute_loss_diffs_from_projection` and `hook_fn_at_result` with
    `return_new_loss`; as there, BOS is a source like any other. Raises NotApplicable where the
    model normalises what its heads write.
    """
    check_keep(keep)
    dst, counted = _destinations(prompts, None)
    heads = all_heads(intact(model))
    run = direct_run(model, prompts, heads)
    change = _changes("loss_changes", run, heads, dst, [keep], negative_only)[keep]
    if proportional:
        change = change / _divisors(clean_losses(run, dst), counted)[:, None]
    return _by_token(model, change, counted)


def loss_changes_of_each(
    model: Model, prompts: Prompts, *, negative_only: bool = False
) -> dict[Keep, Float[Tensor, "batch layer head pos"]]:
    """`loss_changes` for each part kept, from one forward pass [nats].

    The three together cost little more than the dearest of them alone. Raises as `loss_changes`.
    """
    dst, counted = _destinations(prompts, None)
    heads = all_heads(intact(model))
    run = direct_run(model, prompts, heads)
    found = _changes("loss_changes_of_each", run, heads, dst, KEEPS, negative_only)
    return {keep: _by_token(model, change, counted) for keep, change in found.items()}


def kept(
    run: DirectRun, head: Head, keep: Keep, negative_only: bool = False
) -> Float[Tensor, "batch dst d_model"]:
    """The part of a head's direct output that stays [residual stream].

    The perpendicular part is summed up source by source, not taken as a remainder of z.
    """
    if keep == "nothing":
        return torch.zeros_like(run.written(head))
    moved, own = run.moved(head), run.own
    along = projected(moved, own, negative_only)
    part = along if keep == "projection" else moved - along
    return einsum(run.pattern(head), part, "batch dst src, batch src d -> batch dst d")


def projected(
    vectors: Float[Tensor, "*batch d_model"],
    directions: Float[Tensor, "*batch d_model"],
    negative_only: bool = False,
) -> Float[Tensor, "*batch d_model"]:
    """Each vector's projection on its direction, if need be only where it points against it.

    Nothing where the direction has length 0: there is nothing to write along.
    """
    along, squared = (vectors * directions).sum(-1, keepdim=True), directions.square().sum(-1)
    if negative_only:
        along = along.clamp(max=0.0)
    length = squared[..., None]
    return torch.where(length > 0, along / length, 0.0) * directions


def projection_gap(
    model: Model,
    prompts: Prompts,
    *,
    negative_only: bool = False,
    at: str | Position | None = None,
) -> Float[Tensor, " batch"]:
    """How far the changes of projection and perpendicular part are from that of ablating [logits].

    The largest difference over all heads and the whole vocabulary, for the predictions made after
    the tokens at a label, or after every token but the first. The parts are summed from values
    and patterns, the ablation is taken from z: they agree where the model is what its hooks say.
    """

    def gap(run: DirectRun, head: Head) -> Float[Tensor, "batch dst d_model"]:
        along, across, ablated = (_change(keep, negative_only)(run, head) for keep in KEEPS)
        return along + across - ablated

    def largest(clean: Tensor, following: Tensor) -> Score:
        return lambda after: (after - clean).abs().amax(-1)

    heads = all_heads(intact(model))
    run = direct_run(model, prompts, heads)
    dst, counted = after_places(prompts, at)
    return (swept(run, heads, dst, gap, largest) * counted[:, None]).amax((1, 2))


def clean_losses(run: DirectRun, dst: Int[Tensor, "batch slot"]) -> Float[Tensor, "batch slot"]:
    """The loss of the prediction made at each destination, prompt by prompt [nats]."""
    following = run.prompts.tokens.gather(1, dst + 1)
    losses = [
        _loss_of(following[rows], wide(logits))
        for rows, logits in run.cache.by_rows(dst, int(run.bridge.cfg.d_vocab))
    ]
    return torch.cat(losses)


def check_keep(keep: str) -> None:
    """Raise ValueError where `keep` names no part."""
    if keep not in KEEPS:
        raise ValueError(f"keep={keep!r}; expected one of {', '.join(KEEPS)}")


def plain_changes(
    run: DirectRun,
    heads: Sequence[Head],
    dst: Int[Tensor, "batch slot"],
    keeps: Sequence[Keep],
    negative_only: bool,
) -> dict[Keep, Float[Tensor, "batch head slot"]]:
    """Changes of the losses by their definition, all logits head by head: the engine's referee."""
    clean = clean_losses(run, dst)[:, None]
    return {
        keep: swept(run, heads, dst, _change(keep, negative_only), _scoring) - clean
        for keep in keeps
    }


def _changes(
    sweep: str,
    run: DirectRun,
    heads: Sequence[Head],
    dst: Int[Tensor, "batch slot"],
    keeps: Sequence[Keep],
    negative_only: bool,
) -> dict[Keep, Float[Tensor, "batch head slot"]]:
    """Changes of the losses, by the engine where it can."""
    asked = (run, heads, dst, keeps, negative_only)
    return either(sweep, lambda: loss_changes_by_part(sweep, *asked), lambda: plain_changes(*asked))


def _by_token(
    model: Model, change: Float[Tensor, "batch each slot"], counted: Float[Tensor, "batch slot"]
) -> Float[Tensor, "batch layer head pos"]:
    """Changes at the tokens predicted; 0 at the first token and the padding."""
    real = torch.where(counted[:, None] > 0, change, 0.0)
    return by_layer(torch.nn.functional.pad(real, (1, 0)), model)


def _change(keep: Keep, negative_only: bool) -> Change:
    return lambda run, head: kept(run, head, keep, negative_only) - run.written(head)


def _divisors(
    clean: Float[Tensor, "batch slot"], counted: Float[Tensor, "batch slot"]
) -> Float[Tensor, "batch slot"]:
    """The clean losses, none of them too small to divide by; 1 where nothing is predicted."""
    small = (clean < MIN_LOSS) & (counted > 0)
    if bool(small.any()):
        raise NotMeasured(
            f"{int(small.sum())} tokens have a clean loss below {MIN_LOSS:g} nats, down to "
            f"{float(clean[small].min()):.3g}: a share of that says nothing; take the change itself"
        )
    return torch.where(counted > 0, clean, 1.0)


def _scoring(clean: Tensor, following: Int[Tensor, "batch slot"]) -> Score:
    return partial(_loss_of, following)


def _loss_of(following: Tensor, logits: Tensor) -> Tensor:
    return logits.logsumexp(-1) - logits.gather(-1, following[..., None])[..., 0]


def _destinations(
    prompts: Prompts, at: str | Position | None
) -> tuple[Int[Tensor, "batch slot"], Float[Tensor, "batch slot"]]:
    """Where predictions are made, and 1 where one of them counts."""
    if at is None:
        width = prompts.tokens.shape[1] - 1
        every = torch.arange(width, device=prompts.tokens.device).repeat(len(prompts), 1)
        return every, inside(prompts)[:, 1:]
    predicted = prompts.at(at)
    if bool((predicted == 0).any()):
        raise ValueError(f"position {at} includes the first token, which nothing predicts")
    return predicted - 1, torch.ones_like(predicted, dtype=torch.get_default_dtype())
