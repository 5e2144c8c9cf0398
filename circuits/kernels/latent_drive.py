"""What an earlier MLP does to a latent: its activation with and without it, on the same prompts.

After the cell of the SAE notebook that zero-ablates MLP0 (seed 003, zero_ablate_mlp0_hooks). There
the activations before are means over active prompts and those after over 100 unselected ones, so
the two cannot be compared; here they are two runs of the same prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.cache import Edit, Edited, Model, edit_keys, edited, intact
from claimlens.circuits.kernels.latents import activations
from claimlens.circuits.kernels.sae import Sae
from claimlens.circuits.kernels.token_mean import token_mean
from claimlens.circuits.parts import Position, Prompts
from claimlens.circuits.verdict import NotApplicable

Part = Literal["neurons", "output"]
_HOOKS = {"neurons": "blocks.{}.mlp.hook_post", "output": "blocks.{}.hook_mlp_out"}


def ablate_mlp(
    model: Model,
    layer: int,
    over: Prompts | None = None,
    at: str | Position | None = None,
    part: Part = "neurons",
) -> Edited:
    """The model with an MLP set to zero, or to its mean over the tokens of `over`.

    `neurons`: the activations after the non-linearity, as in seed 003, so that b_out stays;
    `output`: all that the MLP writes. At every position, or at one labelled position. The mean
    leaves BOS and padding out. Raises NotApplicable for a layer the model lacks, NotMeasured where
    `over` holds no token.
    """
    layers = int(intact(model).cfg.n_layers)
    if not 0 <= layer < layers:
        raise NotApplicable(f"the model has no MLP {layer}: it has {layers} layers, from 0")
    hook = _HOOKS[part].format(layer)
    mean = None if over is None else token_mean(model, over, hook)

    def apply(x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return torch.zeros_like(x) if mean is None else mean.expand_as(x).clone()

    place = Position.parse(at) if isinstance(at, str) else at
    before, source = edit_keys(model), None if over is None else over.tokens
    known = over is None or None not in before  # a mean depends on the edits before it
    kind = "zero" if over is None else "mean"
    edit = Edit(
        hook,
        apply,
        f"{kind} ablation of the {part} of MLP{layer}{f' at {place}' if place else ''}",
        key=(kind, hook, id(source), before) if known else None,
        holds=source,
        at=place,
    )
    return edited(model, edit)


def mlp_drive(
    model: Model,
    prompts: Prompts,
    sae: Sae,
    latents: Sequence[int],
    layer: int,
    over: Prompts | None = None,
    at: str | Position = "END",
    everywhere: bool = False,
    part: Part = "neurons",
) -> Float[Tensor, "batch latent"]:
    """How far each latent's activation at `at` falls when an earlier MLP is ablated [activation].

    Before minus after, on the same prompts, at `at` only or `everywhere`. Positive where the MLP
    drives the latent. Exactly 0 for a latent that fires in neither run. Raises NotApplicable
    for an MLP that the SAE does not come after.
    """
    if layer >= (own := sae_layer(sae)):
        raise NotApplicable(f"MLP{layer} cannot drive an SAE on layer {own}: give an earlier layer")
    without = ablate_mlp(model, layer, over, None if everywhere else at, part)
    before = activations(model, prompts, sae, latents, at)
    return before - activations(without, prompts, sae, latents, at)


def sae_layer(sae: Sae) -> int:
    """The layer that an SAE reads; raises NotApplicable where its hook is in none."""
    parts = sae.hook.split(".")
    if parts[0] != "blocks" or len(parts) < 2 or not parts[1].isdigit():
        raise NotApplicable(f"the SAE reads {sae.hook}, which belongs to no layer")
    return int(parts[1])
