"""Every head's output patched from clean into corrupted, one head at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.engine.changes import Cell, inside, replace, z
from claimlens.circuits.engine.policy import either
from claimlens.circuits.engine.read import Metric, read_out_of
from claimlens.circuits.engine.run import check_source, intact_run
from claimlens.circuits.engine.sweep import Sweep
from claimlens.circuits.kernels.ablate import z_of
from claimlens.circuits.kernels.bridge import all_heads
from claimlens.circuits.kernels.cache import Edit, Edited, Model, edited, intact
from claimlens.circuits.kernels.patch import check_sides, share_of_gap
from claimlens.circuits.metrics import MIN_GAP, logit_diff
from claimlens.circuits.parts import Head, Position, Prompts


@dataclass(frozen=True, eq=False)
class HeadPatching:
    """What patching each head gave back: the patched minus the corrupted metric [logits].

    `effect` is "batch layer head", or "batch layer head pos" where positions were patched one by
    one; `gap` the clean minus the corrupted metric.
    """

    effect: Float[Tensor, "batch layer head *pos"]
    gap: Float[Tensor, " batch"]

    def of(self, head: Head) -> Float[Tensor, "batch ..."]:
        """The effect of one head."""
        return self.effect[:, head.layer, head.index]

    def recovered(self, floor: float = MIN_GAP) -> Float[Tensor, "batch layer head *pos"]:
        """The effect as a share of the mean gap, as `Patching.recovered`."""
        return share_of_gap(self.effect, self.gap, floor)


def patch_heads(
    model: Model,
    clean: Prompts,
    corrupted: Prompts,
    at: str | Position | None = None,
    metric: Metric = logit_diff,
) -> HeadPatching:
    """z of every head, patched from the clean into the corrupted run at all positions or a label.

    The head sweep of the TransformerLens demo (seed 002, get_act_patch_attn_head_out_all_pos),
    prompt by prompt. Raises NotMeasured where the two sides differ in length, or not at all.
    """
    check_sides(clean, corrupted)
    places = None if at is None else (clean.at(at), corrupted.at(at))
    effect, gap = either(
        "patch_heads",
        lambda: _by_engine("patch_heads", model, clean, corrupted, [places], metric),
        lambda: _by_hooks(model, clean, corrupted, [places], metric),
    )
    return HeadPatching(effect[..., 0], gap)


def patch_heads_by_position(
    model: Model, clean: Prompts, corrupted: Prompts, metric: Metric = logit_diff
) -> HeadPatching:
    """The same at one token index after the other (get_act_patch_attn_head_out_by_pos)."""
    check_sides(clean, corrupted)
    columns = [torch.full_like(clean.tokens[:, :1], i) for i in range(clean.tokens.shape[1])]
    places = [(column, column) for column in columns]
    effect, gap = either(
        "patch_heads_by_position",
        lambda: _by_engine("patch_heads_by_position", model, clean, corrupted, places, metric),
        lambda: _by_hooks(model, clean, corrupted, places, metric),
    )
    return HeadPatching(effect, gap)


Places = tuple[Int[Tensor, "batch slot"], Int[Tensor, "batch slot"]] | None
"""Where a head is taken from in the clean run, and put in the corrupted one; None everywhere."""
Effects = tuple[Float[Tensor, "batch layer head place"], Float[Tensor, " batch"]]


def _by_engine(
    sweep: str,
    model: Model,
    clean: Prompts,
    corrupted: Prompts,
    places: Sequence[Places],
    metric: Metric,
) -> Effects:
    read, read_clean = read_out_of(metric, corrupted), read_out_of(metric, clean)
    run, source = intact_run(model, corrupted), intact_run(model, clean)
    check_source(run, source)
    rows = torch.arange(len(clean), device=clean.tokens.device)[:, None]

    def cell(head: Head, where: Places) -> Cell:
        value = source.at(z(head))
        if where is None:
            return Cell.of(replace(z(head), value, noop=True))
        return Cell.of(replace(z(head), value[rows, where[0]], where[1], noop=True))

    there = [p and (p[0], inside(p[1], corrupted.lengths)) for p in places]
    cells = [cell(head, where) for head in all_heads(intact(model)) for where in there]
    swept = Sweep(run, cells, read, sweep)
    before = swept.intact()[:, 0]
    effect = rearrange(
        swept.result()[..., 0] - before,
        "(layer head place) batch -> batch layer head place",
        layer=run.layers,
        place=len(places),
    )
    return effect, Sweep(source, [], read_clean).intact()[:, 0] - before


def _by_hooks(
    model: Model, clean: Prompts, corrupted: Prompts, places: Sequence[Places], metric: Metric
) -> Effects:
    """The plain form: one run for each head and place."""
    before = metric(model, corrupted)
    found = [
        metric(_patched(model, head, z_of(model, clean, head), where), corrupted) - before
        for head in all_heads(intact(model))
        for where in places
    ]
    effect = rearrange(
        torch.stack(found, 1),
        "batch (layer head place) -> batch layer head place",
        layer=int(intact(model).cfg.n_layers),
        place=len(places),
    )
    return effect, metric(model, clean) - before


def _patched(
    model: Model, head: Head, value: Float[Tensor, "batch pos d_head"], where: Places
) -> Edited:
    """The model with z of one head put in; nothing changing is a result."""

    def apply(
        old: Float[Tensor, "batch pos head d_head"],
    ) -> Float[Tensor, "batch pos head d_head"]:
        new = old.clone()
        if where is None:
            new[:, :, head.index] = value
        else:
            rows = torch.arange(len(old), device=old.device)[:, None]
            new[rows, where[1], head.index] = value[rows, where[0]]
        return new

    hook = f"blocks.{head.layer}.attn.hook_z"
    return edited(model, Edit(hook, apply, f"patching z of {head}", noop=True))
