"""Every sweep by the engine against its plain form, one hook after the other, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures
from claimlens.ci.selftests.kernels.samples import agree, sides
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.engine.policy import Mode, Policy, using
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.direct_paths import direct_paths
from claimlens.circuits.kernels.latent_sweep import REST, ablate_each_latent
from claimlens.circuits.kernels.patch import patch_residual
from claimlens.circuits.kernels.patch_heads import patch_heads, patch_heads_by_position
from claimlens.circuits.kernels.path_patch import Mlps
from claimlens.circuits.kernels.path_sweep import path_effects
from claimlens.circuits.kernels.query_intervention import Norm
from claimlens.circuits.kernels.query_sweep import attention_readouts, sweep
from claimlens.circuits.metrics import answer_loss, logit_diff, loss
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

EXACT = {"GPT2": 1e-9, "GPTNeoX": 1e-9, "Llama": 2e-6}
"""Llama takes its norms and its softmax in float32 whatever the dtype: sums of another length
differ by its rounding. Without that it agrees to 1e-9 (engine/test_engine_properties.py)."""
ENGINE = ("GPT2", "Llama", "GPTNeoX")
SENDER, WIDTH = Head(0, 1), architectures.WIDTH
Sweep = Callable[[Any, Prompts, Prompts], Tensor]


def vector(prompts: Prompts) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(len(prompts), WIDTH, generator=generator, dtype=torch.float64)


def by_scale(model: Any, prompts: Prompts, norm: Norm) -> Tensor:
    """The logit difference and attention, as probability and as score."""
    heads, scales = [Head(0, 1), Head(1, 3 % int(model.cfg.n_heads))], [-1.0, 0.0, 2.5]
    looks = {
        **{f"p {n}": r for n, r in attention_readouts(["IO", "IO-S1", "BOS"]).items()},
        **{f"s {n}": r for n, r in attention_readouts(["IO-S1"], of="score").items()},
    }
    asked = (None, looks)
    found = [sweep(model, prompts, heads, vector(prompts), scales, r, norm=norm) for r in asked]
    return torch.stack([values for read in found for values in read.values()])


def latents(model: Any, prompts: Prompts, hook: str, width: int) -> Tensor:
    sae = random_sae("standard", hook, width)
    sets: list[int | Sequence[int]] = [0, 1, [2, 3], 4]
    found = [
        ablate_each_latent(model, prompts, sae, sets, "END", rest, metric).change
        for rest in REST
        for metric in (logit_diff, answer_loss)
    ]
    return torch.stack(found)


def edges(into: str, mlps: Mlps, model: Any, a: Prompts, b: Prompts) -> Tensor:
    return direct_paths(model, a, b, SENDER, into, mlps)


def paths(mlps: Mlps, model: Any, a: Prompts, b: Prompts) -> Tensor:
    return path_effects(model, a, b, mlps)


def queries(norm: Norm, model: Any, a: Prompts, b: Prompts) -> Tensor:
    return by_scale(model, a, norm)


SWEEPS: dict[str, Sweep] = {
    "heads": lambda m, a, b: patch_heads(m, a, b).effect,
    "heads, their gap": lambda m, a, b: patch_heads(m, a, b).gap,
    "heads at a label": lambda m, a, b: patch_heads(m, a, b, "S2").effect,
    "heads by loss": lambda m, a, b: patch_heads(m, a, b, metric=answer_loss).effect,
    "heads by position": lambda m, a, b: patch_heads_by_position(m, a, b).effect,
    "residual": lambda m, a, b: patch_residual(m, a, b, range(3)).effect,
    "residual at labels": lambda m, a, b: patch_residual(m, a, b, [0, 2], ["S2", "END"]).effect,
    **{
        f"direct paths into {into}, MLPs {mlps}": partial(edges, into, mlps)
        for into in "qkv"
        for mlps in get_args(Mlps)
    },
    **{f"paths, MLPs {mlps}": partial(paths, mlps) for mlps in get_args(Mlps)},
    **{f"queries, {norm}": partial(queries, norm) for norm in get_args(Norm)},
    "latents": lambda m, a, b: latents(m, a, "blocks.1.hook_resid_pre", WIDTH),
    "latents of attention": lambda m, a, b: latents(m, a, "blocks.1.hook_attn_out", WIDTH),
    "latents of the MLP": lambda m, a, b: latents(m, a, "blocks.0.hook_mlp_out", WIDTH),
}


def measured(mode: Mode, of: Sweep, model: Any, pairs: PromptPairs) -> tuple[Tensor, set[str]]:
    """The numbers, and the ways they went."""
    with using(Policy(mode=mode)) as policy:
        return of(model, *sides(pairs)), set(policy.ways.values())


@pytest.mark.parametrize("name", ENGINE)
@pytest.mark.parametrize("what", SWEEPS)
def test_the_engine_gives_what_hooks_give(what: str, name: str, swapped: PromptPairs) -> None:
    model = architectures.bridge(name)
    fast, ways = measured("required", SWEEPS[what], model, swapped)
    assert ways == {"engine"}
    plain, ways = measured("hooks", SWEEPS[what], model, swapped)
    assert ways == {"hooks: as asked"}
    agree(fast, plain, EXACT[name])
    assert float(plain.abs().max()) > 1e-3
    assert bool((fast != 0).eq(plain != 0).all()), "what is exactly 0 by one is so by the other"


@pytest.mark.parametrize("what", [*SWEEPS][:7])
def test_what_the_engine_does_not_know_goes_by_hooks_and_says_so(
    what: str, swapped: PromptPairs
) -> None:
    model = architectures.bridge("Gemma2")
    found, ways = measured("auto", SWEEPS[what], model, swapped)
    assert len(ways) == 1
    assert ways.pop().startswith("hooks: the architecture Gemma2ForCausalLM; it knows GPT2LM")
    agree(found, measured("hooks", SWEEPS[what], model, swapped)[0], 0)
    with pytest.raises(NotMeasured, match="is not for the engine: the architecture Gemma2"):
        measured("required", SWEEPS[what], model, swapped)


def test_other_edits_and_other_metrics_go_by_hooks(model: Any, swapped: PromptPairs) -> None:
    ablated = zero_ablate(model, Head(0, 0))
    found, ways = measured("auto", SWEEPS["heads"], ablated, swapped)
    assert ways == {"hooks: other edits are in force"}
    agree(found, measured("hooks", SWEEPS["heads"], ablated, swapped)[0], 0)
    _, ways = measured(
        "auto", lambda m, a, b: patch_heads(m, a, b, metric=loss).gap, model, swapped
    )
    assert ways == {"hooks: the metric loss; it knows logit_diff and answer_loss"}


def test_only_one_position_of_a_head(model: Any, swapped: PromptPairs) -> None:
    """The head sweep by position, at the label's index, is the sweep at the label."""
    clean, corrupted = sides(swapped)
    by_position = patch_heads_by_position(model, clean, corrupted).effect
    at = clean.at("S2")[:, None, None].expand(-1, *by_position.shape[1:3], -1)
    agree(by_position.gather(3, at)[..., 0], patch_heads(model, clean, corrupted, "S2").effect, 0)


def test_sweeps_refuse_what_has_no_answer(model: Any, swapped: PromptPairs) -> None:
    clean, corrupted = sides(swapped)
    with pytest.raises(NotApplicable, match="no head stands behind L2H1"):
        direct_paths(model, clean, corrupted, Head(2, 1))
    with pytest.raises(ValueError, match="into='qk'; expected one of q, k and v"):
        direct_paths(model, clean, corrupted, SENDER, "qk")
    with pytest.raises(NotMeasured, match="L0H1 writes the same on both sides"):
        direct_paths(model, clean, replace(clean, tokens=clean.tokens.clone()), SENDER)
    with pytest.raises(NotMeasured, match="nothing to patch"):
        patch_heads(model, clean, clean)
    sae = random_sae("standard", "blocks.1.hook_resid_pre", WIDTH)
    with pytest.raises(ValueError, match="latent"):
        ablate_each_latent(model, clean, sae, [sae.size])
