"""Every head to the logits with attention frozen: one row a head, all heads side by side.

Frozen heads don't let positions speak to each other, so that what a head changes at END passes the
later MLPs at END alone. Heads of earlier layers wait for those of later ones: each MLP runs once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.engine.read import LogitDiff
from claimlens.circuits.engine.run import Run, check_source, intact_run
from claimlens.circuits.engine.wave import MLP_ROWS
from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.parts import Prompts

AtEnd = Callable[[Float[Tensor, "batch pos ..."]], Float[Tensor, "batch ..."]]


def frozen_path_effects(
    model: Model, prompts: Prompts, source: Prompts, through_mlps: bool
) -> Float[Tensor, "batch layer head"]:
    """What each head's output of another run adds to the logit difference [logits]."""
    read = LogitDiff.of(prompts)
    run, other = intact_run(model, prompts), intact_run(model, source)
    check_source(run, other)
    rows = torch.arange(len(prompts), device=prompts.tokens.device)
    end = prompts.at("END")[:, 0]

    def at_end(x: Tensor) -> Tensor:
        return x[rows, end]

    with torch.no_grad():
        change = at_end(run.pre[0])[None][:0]
        for layer in range(run.layers):
            sent = _written(run, layer, at_end(other.z[layer]) - at_end(run.z[layer]))
            heard = change if run.weights.parallel else torch.cat([change, sent])
            if through_mlps:
                heard = heard + _heard(run, layer, heard, at_end)
            change = torch.cat([heard, sent]) if run.weights.parallel else heard
        intact = at_end(run.pre[-1])
        final = torch.cat([intact + change, intact[None]])[:, :, None]
        found = read.read(run.weights, run.weights.final(final), rows)[..., 0]
    effects = torch.where((change != 0).any(-1), found[:-1] - found[-1], 0.0)
    return rearrange(effects, "(layer head) batch -> batch layer head", layer=run.layers)


def _written(
    run: Run, layer: int, moved: Float[Tensor, "batch head d_head"]
) -> Float[Tensor, "head batch d_model"]:
    """Changes of z through each head's W_O."""
    weights = rearrange(
        run.weights.layers[layer].o.weight, "(head e) d -> head e d", head=run.weights.heads
    )
    return einsum(moved, weights, "batch head e, head e d -> head batch d")


def _heard(
    run: Run, layer: int, change: Float[Tensor, "cell batch d_model"], at_end: AtEnd
) -> Float[Tensor, "cell batch d_model"]:
    """What a layer's MLP adds for each changed stream, some rows at a time."""
    parts = run.weights.layers[layer]
    flat = rearrange(at_end(run.mid(layer)) + change, "cell batch d -> (cell batch) d")
    blocks = [parts.w_out(parts.neurons(parts.ln2(x))) for x in torch.split(flat, MLP_ROWS)]
    added = torch.cat(blocks).reshape(change.shape) - at_end(run.mlp_out[layer])
    return torch.where((change != 0).any(-1, keepdim=True), added, 0.0)
