"""An SAE on the neurons of four architectures; the referee is the raw model with a plain hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures, micro, twin_sae
from claimlens.ci.selftests.kernels.samples import agree, rows
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.kernels.sae import (
    Sae,
    ablate_latents,
    ablate_site,
    check_fits,
    site,
    splice,
)
from claimlens.circuits.metrics import end_logits
from claimlens.circuits.parts import Prompts

OUTPUT = {
    "GPT2": "transformer.h.1.mlp.c_proj",
    "Llama": "model.layers.1.mlp.down_proj",
    "GPTNeoX": "gpt_neox.layers.1.mlp.dense_4h_to_h",
    "Gemma2": "model.layers.1.mlp.down_proj",
}
POST = "blocks.1.mlp.hook_post"
LATENTS = (2, 7, 11, 30)
ROUNDING = 2e-5
"""Folding is done in float32, and so is the RMSNorm of Llama and Gemma whatever the dtype."""
Change = Callable[[Sae, Tensor], Tensor]


def rebuilt(sae: Sae, x: Tensor) -> Tensor:
    return twin_sae.decode(sae, twin_sae.encode(sae, x))


def without(sae: Sae, x: Tensor) -> Tensor:
    return twin_sae.decode(sae, twin_sae.encode(sae, x), LATENTS)


EDITS: dict[str, tuple[Callable[[Model, Sae], Model], Change]] = {
    "splice": (splice, rebuilt),
    "zero": (ablate_site, lambda sae, x: torch.zeros_like(x)),
    "raw": (
        lambda model, sae: ablate_latents(model, sae, LATENTS),
        lambda sae, x: x - rebuilt(sae, x) + without(sae, x),
    ),
    "encoded": (lambda model, sae: ablate_latents(model, sae, LATENTS, rest="encoded"), without),
}


def raw_logits(name: str, tokens: Tensor, sae: Sae, change: Change) -> Tensor:
    """Logits at END of the Hugging Face model, what its neurons pass on being changed."""
    raw = architectures.raw(name)

    def hook(module: Any, given: tuple[Tensor]) -> tuple[Tensor]:
        return (change(sae, given[0][0])[None],)

    handle = raw.get_submodule(OUTPUT[name]).register_forward_pre_hook(hook)
    logits = micro.logits_of(raw, tokens[None])[0, -1]
    handle.remove()
    return logits - logits.mean()


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", architectures.NAMES)
def test_an_sae_on_the_neurons(name: str, edit: str, clean: Prompts) -> None:
    bridge, prompts = architectures.bridge(name), clean.select(torch.arange(4))
    ours, change = EDITS[edit]
    width = int(architectures.bridge(name).cfg.d_mlp)
    sae = random_sae("standard", POST, width)
    check_fits(bridge, sae)
    assert site(bridge, prompts, sae).shape[-1] == width
    found = end_logits(ours(bridge, sae), prompts)
    expected = [raw_logits(name, tokens, sae, change) for tokens in rows(prompts)]
    agree(found - found.mean(1, keepdim=True), expected, ROUNDING)
