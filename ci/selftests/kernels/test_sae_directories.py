"""SAE directories as sae_lens writes them: every architecture, and what is refused in words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from claimlens.ci.selftests import micro, twin_sae
from claimlens.ci.selftests.kernels.samples import agree
from claimlens.ci.selftests.twin_sae import ARCHITECTURES, random_sae
from claimlens.circuits.kernels.sae import Architecture, Sae, site
from claimlens.circuits.parts import Prompts
from claimlens.fixtures.default.sae_train import ACTIVE, _Autoencoder, _revival, top
from claimlens.fixtures.directories import ModelUnavailable
from claimlens.fixtures.loading import Settings
from claimlens.fixtures.models import LoadedModel, Registry
from claimlens.fixtures.names import DEFAULT_DIRECTORY
from claimlens.fixtures.sae import read_sae, sae_of

OUT, POST = "blocks.1.hook_mlp_out", "blocks.1.mlp.hook_post"
STORED = {
    "standard": ("b_enc",),
    "topk": ("b_enc",),
    "jumprelu": ("b_enc", "threshold"),
    "gated": ("b_gate", "b_mag", "r_mag"),
}


def saved(folder: Path, sae: Sae, **cfg: Any) -> Path:
    """The files that sae_lens writes for this SAE."""
    folder.mkdir(parents=True)
    names = ("W_enc", "W_dec", "b_dec", *STORED[sae.architecture])
    weights = {name: getattr(sae, name).float().contiguous() for name in names}
    save_file(weights, folder / "sae_weights.safetensors")
    config = {
        "architecture": sae.architecture,
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"hook_name": sae.hook},
        **({"k": sae.k} if sae.architecture == "topk" else {}),
        **cfg,
    }
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def activations(width: int) -> Tensor:
    return torch.randn(6, width, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("hook", [OUT, POST])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_read_back(
    architecture: Architecture, hook: str, centred: bool, tmp_path: Path
) -> None:
    width = micro.WIDTH if hook == OUT else 3 * micro.WIDTH
    sae = random_sae(architecture, hook, width, apply_b_dec_to_input=centred)
    found = read_sae(saved(tmp_path / "sae", sae), "cpu")
    x = activations(width)
    latents = twin_sae.encode(sae, x)
    assert found.hook == hook
    agree(found.encode(x.float()), latents, 1e-5)
    agree(found.decode(found.encode(x.float())), twin_sae.decode(sae, latents), 1e-5)


def test_latents_in_units_of_their_decoder_are_folded_in(tmp_path: Path) -> None:
    """sae_lens' rescale_acts_by_decoder_norm: times the row's length before the top are chosen,
    over it again before decoding."""
    sae = random_sae("topk", OUT, micro.WIDTH)
    found = read_sae(saved(tmp_path / "sae", sae, rescale_acts_by_decoder_norm=True), "cpu")
    x, norm = activations(micro.WIDTH), sae.W_dec.norm(dim=1)
    assert sae.b_enc is not None
    pre = ((x - sae.b_dec) @ sae.W_enc + sae.b_enc) * norm
    kept = torch.stack([row.where(row >= row.topk(5).values[-1], 0.0).relu() for row in pre])
    agree(found.encode(x.float()), kept, 1e-5)
    agree(found.decode(found.encode(x.float())), kept / norm @ sae.W_dec + sae.b_dec, 1e-5)
    assert not torch.equal(kept > 0, sae.encode(x) > 0)


def test_a_topk_sae_of_older_files_is_one(tmp_path: Path) -> None:
    sae = random_sae("topk", OUT, micro.WIDTH)
    older = {
        "architecture": "standard",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 5},
        "k": None,
        "metadata": {},
        "hook_name": OUT,
    }
    found = read_sae(saved(tmp_path / "sae", sae, **older), "cpu")
    x = activations(micro.WIDTH)
    assert (found.architecture, found.k, found.hook) == ("topk", 5, OUT)
    agree(found.encode(x.float()), twin_sae.encode(sae, x), 1e-5)


# --- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        ({"activation_fn_str": "tanh-relu", "architecture": "standard"}, "'tanh-relu'; supported"),
        ({"reshape_activations": "hook_z"}, "reshape_activations='hook_z', which is not supported"),
        ({"hook_head_index": 3}, "hook_head_index=3, which is not supported"),
        ({"hook_head_index": 0}, "hook_head_index=0, which is not supported"),
        (
            {"metadata": {"hook_name": OUT, "hook_head_index": 0}},
            "hook_head_index=0, which is not supported",
        ),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor=True"),
        ({"finetuning_scaling_factor": 0}, "finetuning_scaling_factor=0"),
        ({"k": 41}, "40 latents has k=41"),
        ({"k": None}, "a topk SAE needs k"),
        ({"architecture": "jumprelu"}, "needs the weight threshold"),
        ({"architecture": "gated"}, "needs the weight b_gate"),
    ],
)
def test_what_is_not_supported_is_refused(cfg: dict[str, Any], told: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "sae", random_sae("topk", OUT, micro.WIDTH), **cfg)
    with pytest.raises(ModelUnavailable, match=told):
        read_sae(folder, "cpu")


@pytest.mark.parametrize("nothing", [None, False, "none"])
def test_what_says_nothing_is_read(nothing: Any, tmp_path: Path) -> None:
    said = {"hook_head_index": nothing, "finetuning_scaling_factor": nothing}
    sae = random_sae("topk", OUT, micro.WIDTH)
    assert read_sae(saved(tmp_path / "sae", sae, **said), "cpu").hook == OUT


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        (
            "W_dec",
            (32, 40),
            r"W_dec has shape \(32, 40\); expected \(40, 32\), as W_enc is 32 x 40",
        ),
        ("b_dec", (40,), r"b_dec has shape \(40,\); expected \(32,\)"),
        ("b_enc", (32,), r"b_enc has shape \(32,\); expected \(40,\)"),
        ("W_enc", (40,), r"W_enc has shape \(40,\); expected two dimensions"),
    ],
)
def test_weights_that_do_not_fit_together_are_refused(
    name: str, shape: tuple[int, ...], told: str, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "sae", random_sae("topk", OUT, micro.WIDTH))
    file = folder / "sae_weights.safetensors"
    save_file({**load_file(file), name: torch.zeros(shape)}, file)
    with pytest.raises(ModelUnavailable, match=told):
        read_sae(folder, "cpu")


def loaded(folder: Path, sae: Sae, dtype: str = "float32") -> LoadedModel:
    micro.write_directory(folder)
    shutil.rmtree(folder / "sae", ignore_errors=True)
    saved(folder / "sae", sae)
    return Registry(Settings(device="cpu", dtype=dtype, seed=0)).open(str(folder))


@pytest.mark.parametrize(
    ("hook", "width", "told"),
    [
        (OUT, micro.WIDTH + 1, "reads 33 dimensions, but blocks.1.hook_mlp_out has 32"),
        (POST, micro.WIDTH, "reads 32 dimensions, but blocks.1.mlp.hook_post has 96"),
        ("blocks.9.hook_mlp_out", micro.WIDTH, "'blocks.9.hook_mlp_out', which this model lacks"),
    ],
)
def test_an_sae_of_another_model_is_unavailable(
    hook: str, width: int, told: str, tmp_path: Path
) -> None:
    model = loaded(tmp_path / "model", random_sae("topk", hook, width))
    with pytest.raises(ModelUnavailable, match=told):
        sae_of(model)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_an_sae_has_its_models_dtype(dtype: str, clean: Prompts, tmp_path: Path) -> None:
    model = loaded(tmp_path / "model", random_sae("topk", POST, 3 * micro.WIDTH), dtype)
    sae = sae_of(model)
    x = site(model.bridge, clean, sae)
    assert sae.encode(x).dtype == x.dtype == getattr(torch, dtype)


# --- the shipped one -----------------------------------------------------------------------------


def test_the_shipped_sae_is_as_its_trainer_writes_it() -> None:
    sae = read_sae(DEFAULT_DIRECTORY / "sae", "cpu")
    assert (sae.architecture, sae.k, sae.hook) == ("topk", ACTIVE, "blocks.4.hook_mlp_out")
    agree(sae.W_dec.norm(dim=1), torch.ones(len(sae.W_dec)).double(), 1e-5)


def test_dead_latents_are_trained_on_the_error_alone() -> None:
    """AuxK (Gao et al. 2024): the error as explained by dead latents, whose weights alone learn."""
    generator = torch.Generator().manual_seed(0)
    width, size = 8, 64
    weights = [
        torch.randn(*shape, generator=generator).requires_grad_()
        for shape in ((width, size), (size,), (size, width), (width,))
    ]
    sae = _Autoencoder(*weights)
    x = torch.randn(5, width, generator=generator)
    before = sae.before(x)
    error = x - sae.decode(top(before, 4))
    dead = torch.arange(size) >= 40
    assert float(_revival(sae, before, error, torch.zeros(size).bool())) == 0
    loss = _revival(sae, before, error, dead)
    explained = top(before[:, dead], ACTIVE) @ sae.decoder[dead]
    torch.testing.assert_close(loss, (explained - error).square().mean() / 32)
    torch.autograd.backward(loss)
    grad = sae.decoder.grad
    assert grad is not None
    assert bool((grad[dead] != 0).any())
    assert not bool((grad[~dead] != 0).any())
