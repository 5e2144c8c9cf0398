"""What an earlier MLP does to a latent: against the twin, and where it can do nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro, twin_latents, twin_sae
from claimlens.ci.selftests.kernels.samples import agree, rows, traces
from claimlens.ci.selftests.twin import Trace, Twin
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.kernels.cache import cache
from claimlens.circuits.kernels.latent_drive import ablate_mlp, mlp_drive, sae_layer
from claimlens.circuits.kernels.sae import Sae
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotApplicable

OUT = "blocks.2.hook_mlp_out"
LAYER, LATENT = 2, 7


def sae_at_end(**changes: Any) -> Sae:
    return random_sae("standard", OUT, micro.WIDTH, **changes)


def mlp_means(twin: Twin, prompts: Prompts, layer: int) -> Tensor:
    """What MLP `layer` writes, with its neurons at their mean over all tokens but BOS."""
    found = []
    for trace, tokens in zip(traces(twin, prompts), rows(prompts), strict=True):
        found.append(trace.mlp_out[layer][1:])
        assert len(found[-1]) == len(tokens) - 1
    return torch.cat(found).mean(0)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("kind", ["zero neurons", "zero output", "mean"])
def test_the_drive_of_an_earlier_mlp(
    kind: str, everywhere: bool, model: Any, twin: Twin, clean: Prompts, corrupted: Prompts
) -> None:
    sae, layer, latents = sae_at_end(), 1, [2, LATENT]
    instead = {
        "zero neurons": twin.weights["transformer.h.1.mlp.c_proj.bias"],
        "zero output": torch.zeros(micro.WIDTH).double(),
        "mean": mlp_means(twin, corrupted, layer),
    }[kind]

    def ablated(x: Tensor) -> Tensor:
        return instead.expand_as(x) if everywhere else torch.cat([x[:-1], instead[None]])

    def seen(trace: Trace, tokens: Tensor) -> Tensor:
        return twin_sae.encode(sae, twin_latents.site_of(twin, trace, tokens, sae)[-1:])[0, latents]

    expected = [
        seen(twin.run(t), t) - seen(twin.run(t, mlp_changes={layer: ablated}), t)
        for t in rows(clean)
    ]
    over = corrupted if kind == "mean" else None
    part: Any = "output" if kind == "zero output" else "neurons"
    found = mlp_drive(model, clean, sae, latents, layer, over, everywhere=everywhere, part=part)
    agree(found, expected, 2e-5)


def test_a_latent_that_does_not_fire_is_not_driven(model: Any, clean: Prompts) -> None:
    sae = sae_at_end(b_enc=torch.full((40,), -1e6).double())
    assert bool((mlp_drive(model, clean, sae, [LATENT], 0) == 0).all())


def test_an_mlp_that_is_not_earlier_drives_nothing(model: Any, clean: Prompts) -> None:
    for layer in (LAYER, LAYER + 1):
        with pytest.raises(NotApplicable, match=f"MLP{layer} cannot drive an SAE on layer 2"):
            mlp_drive(model, clean, sae_at_end(), [LATENT], layer)


def test_layers_that_do_not_exist(model: Any) -> None:
    with pytest.raises(NotApplicable, match="the model has no MLP 3"):
        ablate_mlp(model, 3)
    with pytest.raises(NotApplicable, match="belongs to no layer"):
        sae_layer(random_sae("standard", "hook_embed", micro.WIDTH))


def test_an_mlp_is_ablated_at_one_position_alone(model: Any, clean: Prompts) -> None:
    hook = "blocks.0.mlp.hook_post"
    before = cache(model, clean, [hook])[hook]
    after = cache(ablate_mlp(model, 0, at="END"), clean, [hook])[hook]
    changed = (before != after).any(-1)
    expected = torch.zeros_like(changed)
    expected[(torch.arange(len(clean)), clean.at("END")[:, 0])] = True
    assert torch.equal(changed, expected)
    assert bool((after[(torch.arange(len(clean)), clean.at("END")[:, 0])] == 0).all())
