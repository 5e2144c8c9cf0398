"""Latents of an SAE, ablated one by one or in sets: every set from one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.engine.changes import Cell, Site, add, replace, site_of
from claimlens.circuits.engine.policy import Unsupported, either
from claimlens.circuits.engine.read import Metric, read_out_of
from claimlens.circuits.engine.run import intact_run
from claimlens.circuits.engine.sweep import Sweep
from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.kernels.sae import Sae, ablate_latents, check_hook, check_latents, splice
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Position, Prompts

Rest = Literal["raw", "encoded"]
"""What stays beside ablated latents: the activation itself, or its reconstruction."""
REST: tuple[Rest, ...] = get_args(Rest)


@dataclass(frozen=True, eq=False)
class Ablated:
    """A metric with each set of latents ablated, and with none: `splice`, where `rest` is encoded.

    Where none of a set fires the two are equal, to the bit.
    """

    value: Float[Tensor, "set batch"]
    baseline: Float[Tensor, " batch"]

    @property
    def change(self) -> Float[Tensor, "set batch"]:
        """What ablating adds to the metric."""
        return self.value - self.baseline


def ablate_each_latent(
    model: Model,
    prompts: Prompts,
    sae: Sae,
    sets: Sequence[int | Sequence[int]],
    at: str | Position = "END",
    rest: Rest = "raw",
    metric: Metric = logit_diff,
) -> Ablated:
    """The metric with each latent, or set of latents, ablated at a labelled position.

    As `ablate_latents` one set at a time (seed 003, get_top_direction_ablation_df); by the engine
    for an SAE on a residual stream, on what attention or an MLP writes, or on its neurons, and for
    the metrics `logit_diff` and `answer_loss`. Raises ValueError for latents that the SAE lacks.
    """
    chosen = [check_latents(sae, [s] if isinstance(s, int) else s) for s in sets]
    check_hook(model, sae)
    asked = _Asked(prompts, sae, chosen, at, rest, metric)
    return either(
        "ablate_each_latent", lambda: _by_engine(model, asked), lambda: _by_hooks(model, asked)
    )


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is ablated where, and what is read."""

    prompts: Prompts
    sae: Sae
    sets: Sequence[Sequence[int]]
    at: str | Position
    rest: Rest
    metric: Metric


def _by_hooks(model: Model, asked: _Asked) -> Ablated:
    """The plain form: one run for each set."""
    sae, at, prompts = asked.sae, asked.at, asked.prompts
    edits = [ablate_latents(model, sae, s, at, asked.rest) for s in asked.sets]
    found = [asked.metric(without, prompts) for without in edits]
    baseline = asked.metric(model if asked.rest == "raw" else splice(model, sae, at), prompts)
    return Ablated(torch.stack(found), baseline)


def _by_engine(model: Model, asked: _Asked) -> Ablated:
    prompts, sae, sets, rest = asked.prompts, asked.sae, asked.sets, asked.rest
    read, site = read_out_of(asked.metric, prompts), _site(sae)
    run, index = intact_run(model, prompts), prompts.at(asked.at)
    rows = torch.arange(len(prompts), device=index.device)[:, None]
    latents = sae.encode(run.at(site)[rows, index])
    every = torch.tensor([n for gone in sets for n in gone], dtype=torch.long, device=index.device)
    sizes = [len(gone) for gone in sets]  # all of them at once: a copy to a GPU waits for it
    chosen = torch.split(every, sizes)
    firing = torch.split(latents[..., every], sizes, -1)

    def without(gone: Int[Tensor, " latent"]) -> Cell:
        return Cell.of(replace(site, sae.decode(latents.index_fill(-1, gone, 0.0)), index))

    if rest == "raw":  # where none of a set fires, nothing changing is the result
        directions = torch.split(sae.W_dec[every], sizes)
        moved = [-some @ along for some, along in zip(firing, directions, strict=True)]
        cells = [Cell.of(add(site, change, index, noop=True)) for change in moved]
    else:
        cells = [without(gone) for gone in (*chosen, every[:0])]
    swept = Sweep(run, cells, read, "ablate_each_latent")
    found = swept.result()[..., 0]
    baseline = swept.intact()[:, 0] if rest == "raw" else found[-1]
    fires = torch.stack([(some != 0).any(-1).any(1) for some in firing])
    return Ablated(torch.where(fires, found[: len(sets)], baseline), baseline)


def _site(sae: Sae) -> Site:
    try:
        return site_of(sae.hook)
    except ValueError as unknown:
        raise Unsupported(str(unknown)) from None
