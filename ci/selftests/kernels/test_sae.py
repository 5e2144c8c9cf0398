"""Sparse autoencoders: four architectures against a plain loop, and what splicing one in does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import ROUNDING, agree
from claimlens.circuits.kernels.cache import cache
from claimlens.circuits.kernels.sae import (
    Architecture,
    Sae,
    ablate_site,
    l0,
    residual_variance,
    splice,
)
from claimlens.circuits.metrics import logit_diff, loss
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured
from claimlens.fixtures.directories import ModelUnavailable
from claimlens.fixtures.sae import permute_decoder, read_sae

SITE = "blocks.1.hook_mlp_out"
LATENTS = 40
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)


def sae_of(architecture: Architecture, **changes: Any) -> Sae:
    """An SAE with random weights; every architecture finds all it needs."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    whole = Sae(
        hook=SITE,
        architecture=architecture,
        W_enc=random(micro.WIDTH, LATENTS),
        W_dec=random(LATENTS, micro.WIDTH),
        b_dec=random(micro.WIDTH),
        b_enc=random(LATENTS),
        k=5,
        threshold=random(LATENTS).abs(),
        b_gate=random(LATENTS),
        b_mag=random(LATENTS),
        r_mag=random(LATENTS),
    )
    return replace(whole, **changes)


def encoded(sae: Sae, x: Tensor) -> list[float]:
    """The latents of one activation, one at a time, as the papers define them."""
    inner = [
        sum(
            (float(x[i]) - (float(sae.b_dec[i]) if sae.apply_b_dec_to_input else 0.0))
            * float(sae.W_enc[i, j])
            for i in range(len(x))
        )
        for j in range(LATENTS)
    ]

    def weight(given: Tensor | None, j: int) -> float:
        assert given is not None
        return float(given[j])

    if sae.architecture == "gated":
        return [
            max(0.0, math.exp(weight(sae.r_mag, j)) * v + weight(sae.b_mag, j))
            if v + weight(sae.b_gate, j) > 0
            else 0.0
            for j, v in enumerate(inner)
        ]
    pre = [v + weight(sae.b_enc, j) for j, v in enumerate(inner)]
    if sae.architecture == "topk":
        kept = sorted(range(LATENTS), key=lambda j: -pre[j])[: sae.k]
        return [max(0.0, v) if j in kept else 0.0 for j, v in enumerate(pre)]
    if sae.architecture == "jumprelu":
        return [max(0.0, v) if v > weight(sae.threshold, j) else 0.0 for j, v in enumerate(pre)]
    return [max(0.0, v) for v in pre]


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(3, micro.WIDTH, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_encode(architecture: Architecture, centred: bool, x: Tensor) -> None:
    sae = sae_of(architecture, apply_b_dec_to_input=centred, k=30)  # the top 30 of 40 reach below 0
    expected = torch.tensor([encoded(sae, row) for row in x], dtype=torch.float64)
    found = sae.encode(x)
    agree(found, expected, ROUNDING)
    assert bool((found == 0).any())
    assert bool((found > 0).any())


def test_topk_keeps_k_latents_at_most(x: Tensor) -> None:
    assert bool(((sae_of("topk").encode(x) > 0).sum(1) <= 5).all())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_decode(architecture: Architecture, x: Tensor) -> None:
    sae = sae_of(architecture)
    latents = sae.encode(x)
    expected = [
        sum((float(v) * sae.W_dec[j] for j, v in enumerate(row)), start=sae.b_dec)
        for row in latents
    ]
    agree(sae.decode(latents), torch.stack(expected), ROUNDING)


def test_batches_are_encoded_token_by_token(x: Tensor) -> None:
    for architecture in ARCHITECTURES:
        sae = sae_of(architecture)
        stacked = torch.stack([x, x.flip(0)])
        agree(sae.encode(stacked)[1, 0], sae.encode(x[2:])[0], ROUNDING)


@pytest.mark.parametrize(
    ("architecture", "missing"),
    [
        ("standard", "b_enc"),
        ("topk", "k"),
        ("jumprelu", "threshold"),
        ("gated", "b_gate"),
        ("gated", "r_mag"),
    ],
)
def test_a_missing_weight_is_named(architecture: Architecture, missing: str, x: Tensor) -> None:
    with pytest.raises(ValueError, match=missing):
        sae_of(architecture, **{missing: None}).encode(x)


# --- in the model --------------------------------------------------------------------------------


def perfect() -> Sae:
    """An SAE that reconstructs everything: each direction once with each sign."""
    both = torch.cat([torch.eye(micro.WIDTH), -torch.eye(micro.WIDTH)], 1).double()
    zeros = torch.zeros(micro.WIDTH).double()
    return Sae(SITE, "standard", both, both.T, zeros, torch.zeros(2 * micro.WIDTH).double())


def test_a_perfect_sae_changes_nothing_and_its_edit_says_so(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotMeasured, match="SAE reconstruction changed nothing"):
        logit_diff(splice(model, perfect()), clean)
    tiny = torch.full((micro.WIDTH,), 1e-13).double()
    nearly = replace(perfect(), b_dec=tiny, apply_b_dec_to_input=False)
    agree(logit_diff(splice(model, nearly), clean), logit_diff(model, clean), 1e-9)


def test_an_sae_that_reconstructs_nothing_is_the_zero_ablation(model: Any, clean: Prompts) -> None:
    silent = replace(perfect(), W_dec=torch.zeros(2 * micro.WIDTH, micro.WIDTH).double())
    found = cache(splice(model, silent), clean).logits
    assert torch.equal(found, cache(ablate_site(model, silent), clean).logits)
    assert not torch.equal(found, cache(model, clean).logits)


def test_splicing_puts_the_reconstruction_at_the_site(model: Any, clean: Prompts) -> None:
    sae = sae_of("topk")
    before = cache(model, clean, [SITE])[SITE]
    after = cache(splice(model, sae), clean, [SITE])[SITE]
    agree(after, sae.decode(sae.encode(before)), ROUNDING)


def test_mean_ablation_of_the_site_leaves_bos_and_padding_out(model: Any, clean: Prompts) -> None:
    site = cache(model, clean, [SITE])[SITE]
    tokens = [site[i, 1:n] for i, n in enumerate(clean.lengths.tolist())]
    mean = torch.cat(tokens).mean(0)
    ablated = cache(ablate_site(model, perfect(), over=clean), clean, [SITE])[SITE]
    agree(ablated, mean.expand_as(ablated), ROUNDING)


def test_sparsity_and_variance_leave_bos_and_padding_out(model: Any, clean: Prompts) -> None:
    sae = sae_of("topk")
    site = cache(model, clean, [SITE])[SITE]
    tokens = [site[i, 1:n] for i, n in enumerate(clean.lengths.tolist())]
    active = [(sae.encode(rows) > 0).sum(1).double().mean() for rows in tokens]
    agree(l0(model, clean, sae), torch.stack(active), 1e-5)
    error, spread = residual_variance(model, clean, sae)
    mean = torch.cat(tokens).mean(0)
    errors = [(r - sae.decode(sae.encode(r))).square().sum(1).mean() for r in tokens]
    agree(error, torch.stack(errors), 1e-9)
    agree(spread, torch.stack([(r - mean).square().sum(1).mean() for r in tokens]), 1e-9)


def test_a_permuted_decoder_has_the_same_latents_in_other_directions(
    model: Any, clean: Prompts, x: Tensor
) -> None:
    sae = sae_of("standard")
    mixed = permute_decoder(sae, seed=0)
    assert torch.equal(mixed.encode(x), sae.encode(x))
    assert sorted(mixed.W_dec.tolist()) == sorted(sae.W_dec.tolist())
    assert not torch.equal(loss(splice(model, mixed), clean), loss(splice(model, sae), clean))


# --- on disk -------------------------------------------------------------------------------------


def save(folder: Path, **cfg: Any) -> Path:
    """A checkpoint as sae_lens writes it."""
    folder.mkdir()
    sae = sae_of("topk")
    names = ("W_enc", "W_dec", "b_dec", "b_enc")
    save_file(
        {name: getattr(sae, name).float() for name in names}, folder / "sae_weights.safetensors"
    )
    config = {"architecture": "topk", "k": 5, "metadata": {"hook_name": SITE}, **cfg}
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def test_a_checkpoint_is_read_back(tmp_path: Path, x: Tensor) -> None:
    found = read_sae(save(tmp_path / "sae"), "cpu")
    assert (found.hook, found.architecture, found.k) == (SITE, "topk", 5)
    agree(found.encode(x.float()), sae_of("topk").encode(x), 1e-4)


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no cfg": (lambda d: (d / "cfg.json").unlink(), "has no cfg.json"),
    "no weights": (lambda d: (d / "sae_weights.safetensors").unlink(), "cannot be read"),
    "cut weights": (lambda d: (d / "sae_weights.safetensors").write_bytes(b"x"), "cannot be read"),
    "cut cfg": (lambda d: (d / "cfg.json").write_text("{"), "not valid JSON"),
    "lacks W_dec": (
        lambda d: save_file({"W_enc": torch.ones(2, 2)}, d / "sae_weights.safetensors"),
        "lacks W_dec, b_dec",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_damaged_checkpoint_says_what_is_wrong(name: str, tmp_path: Path) -> None:
    spoil, told = SPOILED[name]
    folder = save(tmp_path / "sae")
    spoil(folder)
    with pytest.raises(ModelUnavailable, match=told):
        read_sae(folder, "cpu")


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        ({"architecture": "crosscoder"}, "'crosscoder'; supported are standard, topk"),
        ({"normalize_activations": "layer_norm"}, "normalises its input"),
        ({"metadata": {}}, "lacks hook_name"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(
    cfg: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelUnavailable, match=told):
        read_sae(save(tmp_path / "sae", **cfg), "cpu")


def test_a_model_without_an_sae_is_not_applicable(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="has no sae/ folder"):
        read_sae(tmp_path / "sae", "cpu")
