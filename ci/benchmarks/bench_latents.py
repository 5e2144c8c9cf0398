"""SAE latents ablated one by one."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.ci.benchmarks.harness import Measure
from claimlens.ci.benchmarks.hook_loops import Hook, Hooks, cached, hook_loop
from claimlens.ci.benchmarks.subject import Subject
from claimlens.ci.benchmarks.sweep import Build, Sweep
from claimlens.circuits.kernels.latent_sweep import ablate_each_latent
from claimlens.circuits.kernels.latents import most_active

LATENTS = 32


def ablated(subject: Subject) -> Sweep:
    """What one latent decodes to is subtracted at END; the logit difference that is left."""
    sae, prompts = subject.sae, subject.clean
    latents = most_active(subject.bridge, prompts, sae, LATENTS, "END")
    found = sae.encode(cached(subject, prompts, sae.hook)[sae.hook][:, -1])

    def hooks(cell: int) -> Hooks:
        latent = latents[cell]
        return [(sae.hook, _less(found[:, latent, None] * sae.W_dec[latent]))]

    def ours() -> Float[Tensor, "cell batch"]:
        return ablate_each_latent(subject.bridge, prompts, sae, latents, "END").change

    return Sweep(
        cells=len(latents),
        ours=ours,
        peers=lambda: {"TransformerLens": hook_loop(subject, prompts, hooks)},
        prompts=prompts,
        cached=(prompts,),
    )


def _less(change: Float[Tensor, "batch d_model"]) -> Hook:
    """A hook that subtracts this at the last position."""

    def hook(old: Float[Tensor, "batch pos d_model"], hook: object) -> torch.Tensor:
        new = old.clone()
        new[:, -1] -= change
        return new

    return hook


SWEEPS: dict[str, Build] = {"sae-latents": ablated}


@pytest.mark.parametrize("row", SWEEPS)
def bench_latents(row: str, measured: Measure) -> None:
    """One value per latent and prompt."""
    measured(row, SWEEPS[row])
