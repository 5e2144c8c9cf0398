"""SAEs that don't fit, latents that don't fire."""

from __future__ import annotations

from dataclasses import replace

import torch

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.errors.entry import Entry
from claimlens.ci.selftests.errors.subjects import (
    OUT,
    clean,
    gemma,
    llama,
    nothing,
    pairs,
    quiet_sae,
    sae,
)
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.kernels.cache import Edit, edited
from claimlens.circuits.kernels.global_local import global_and_local, peak_latents
from claimlens.circuits.kernels.latent_attribution import Parts, feature_attribution, mlp_site
from claimlens.circuits.kernels.latent_drive import ablate_mlp, mlp_drive, sae_layer
from claimlens.circuits.kernels.latent_logits import (
    activation_map,
    latent_logits,
    latent_scatter,
    rank_agreement,
    written,
)
from claimlens.circuits.kernels.latents import ablate_each, active_prompts, halves, most_active
from claimlens.circuits.kernels.max_activations import max_activations
from claimlens.circuits.kernels.sae import site
from claimlens.circuits.kernels.sae_statistics import sae_statistics
from claimlens.circuits.kernels.token_mean import check_counted

_LATENT = 7


def _doubled() -> object:
    """Twice the stream, which is no component of it."""
    model = edited(micro.bridge(), Edit("blocks.1.hook_resid_pre", lambda x: 2 * x, "twice"))
    return feature_attribution(model, clean(), sae(), _LATENT)


def _never_drawn() -> object:
    return ablate_each(micro.bridge(), pairs(), quiet_sae(_LATENT), [_LATENT]).histogram(0)


def _one_value() -> object:
    found = sae_statistics(micro.bridge(), [clean()], sae())
    return replace(found, spread=0.0).explained_variance


def _all_dead() -> object:
    dead = quiet_sae(*range(sae().size))
    return sae_statistics(micro.bridge(), [clean()], dead).density_histogram()


ENTRIES = (
    Entry(lambda _: site(micro.bridge(), clean(), sae(hook="blocks.9.hook_mlp_out"))),
    Entry(lambda _: site(micro.bridge(), clean(), random_sae("standard", OUT, 8))),
    Entry(
        lambda _: site(micro.bridge(), clean(), random_sae("standard", "blocks.1.attn.hook_z", 16))
    ),
    Entry(lambda _: sae("topk", k=None).encode(torch.ones(1, micro.WIDTH).double())),
    Entry(lambda _: mlp_site(sae(hook="blocks.1.hook_resid_post"))),
    Entry(lambda _: sae_layer(sae(hook="hook_embed"))),
    Entry(lambda _: written(gemma(), sae())),
    Entry(lambda _: feature_attribution(llama(), clean(), sae(), _LATENT)),
    Entry(lambda _: feature_attribution(micro.bridge(), clean(), sae(), _LATENT, neurons="mean")),
    Entry(
        lambda _: feature_attribution(micro.bridge(), clean(), sae("gated", r_mag=None), _LATENT)
    ),
    Entry(lambda _: _doubled()),
    Entry(lambda _: Parts(("L0H0",), torch.ones(1, 1)).of("L9H9")),
    Entry(lambda _: ablate_mlp(micro.bridge(), 9)),
    Entry(lambda _: mlp_drive(micro.bridge(), clean(), sae(), [_LATENT], 2)),
    Entry(lambda _: latent_logits(micro.bridge(), replace(clean(), answer=None), sae())),
    Entry(lambda _: rank_agreement(torch.eye(2), torch.eye(2))),
    Entry(lambda _: rank_agreement(torch.eye(3), torch.ones(3, 3))),
    Entry(lambda _: latent_scatter(micro.bridge(), clean(), sae(), above=1e6)),
    Entry(lambda _: activation_map(micro.bridge(), clean(), [["a"]], sae(), [_LATENT])),
    Entry(lambda _: active_prompts(micro.bridge(), pairs(), sae(), _LATENT, above=1e6)),
    Entry(lambda _: most_active(micro.bridge(), clean(), sae(), 0)),
    Entry(lambda _: most_active(micro.bridge(), clean(), sae(), 40)),
    Entry(lambda _: halves(pairs().select([0]))),
    Entry(lambda _: ablate_each(micro.bridge(), pairs(), sae(), [])),
    Entry(lambda _: _never_drawn()),
    Entry(lambda _: max_activations(micro.bridge(), [clean()], sae(), k=0)),
    Entry(lambda _: max_activations(micro.bridge(), [], sae())),
    Entry(lambda _: max_activations(micro.bridge(), [clean()], sae()).examples(99)),
    Entry(lambda _: global_and_local(micro.bridge(), pairs(), sae(), _LATENT, k=0)),
    Entry(lambda _: global_and_local(micro.bridge(), pairs(), quiet_sae(_LATENT), _LATENT, k=4)),
    Entry(lambda _: peak_latents(micro.bridge(), clean(), sae(), 99)),
    Entry(lambda _: peak_latents(micro.bridge(), clean(), quiet_sae(_LATENT), 40)),
    Entry(lambda _: sae_statistics(micro.bridge(), [], sae())),
    Entry(lambda _: _one_value()),
    Entry(lambda _: _all_dead()),
    Entry(lambda _: check_counted(nothing())),
)
