"""How much every head raises or lowers the logits of the tokens it attends to."""

from __future__ import annotations

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.attribution import FINAL_SCALE
from claimlens.circuits.kernels.bridge import all_heads, output_weights, unembedding, value_head
from claimlens.circuits.kernels.cache import Model, cache, intact
from claimlens.circuits.parts import Position, Prompts


def copy_effect(
    model: Model, prompts: Prompts, src: str | Position | None = None
) -> Float[Tensor, "batch layer head"]:
    """Attention-weighted direct effect of each head on the attended token's own logit [logits].

    Attention from END to a source, times the direct effect of the source's value on its own
    token's logit (final scale frozen), summed over all sources but BOS, or for the source `src`
    alone. Negative for copy suppressors. From the copy-suppression notebook (seed 001), where it
    is the attention-weighted effect at one destination.
    """
    bridge = intact(model)
    layers = int(bridge.cfg.n_layers)
    names = [f"blocks.{n}.attn.hook_{what}" for n in range(layers) for what in ("pattern", "v")]
    run = cache(model, prompts, [*names, FINAL_SCALE])
    rows, end = torch.arange(len(prompts), device=prompts.tokens.device), prompts.at("END")[:, 0]
    scale = run[FINAL_SCALE][rows, end]
    own = unembedding(bridge).T[prompts.tokens]
    counted = _counted(prompts, src)
    effects = []
    for head in all_heads(bridge):
        weight = run[f"blocks.{head.layer}.attn.hook_pattern"][rows, head.index, end]
        value = run[f"blocks.{head.layer}.attn.hook_v"][:, :, value_head(bridge, head)]
        written = value @ output_weights(bridge, head)
        effect = einsum(written, own, "batch src d_model, batch src d_model -> batch src") / scale
        effects.append((weight * effect * counted).sum(1))
    return rearrange(effects, "(layer head) batch -> batch layer head", layer=layers)


def _counted(prompts: Prompts, src: str | Position | None) -> Float[Tensor, "batch pos"]:
    """1 at the sources that count, 0 elsewhere."""
    if src is None:
        counted = torch.ones(prompts.tokens.shape, device=prompts.tokens.device)
        counted[:, 0] = 0
        return counted
    zero = torch.zeros(prompts.tokens.shape, device=prompts.tokens.device)
    return zero.scatter(1, prompts.at(src), 1.0)
