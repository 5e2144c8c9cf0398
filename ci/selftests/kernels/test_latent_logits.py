"""What latents write toward the answer: against the twin and against ablation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from scipy import stats
from torch import Tensor

from claimlens.ci.selftests import architectures, micro, twin_latents, twin_sae
from claimlens.ci.selftests.kernels.samples import FOLDED, agree, answers_of, rows, traces
from claimlens.ci.selftests.twin import Twin
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.figures import Figure
from claimlens.circuits.kernels.cache import cache
from claimlens.circuits.kernels.latent_logits import (
    activation_map,
    latent_effects,
    latent_logits,
    latent_scatter,
    rank_agreement,
    written,
)
from claimlens.circuits.kernels.latents import activations
from claimlens.circuits.kernels.sae import Sae, ablate_latents
from claimlens.circuits.kernels.token_boosts import weight_boosts
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

OUT, POST = "blocks.2.hook_mlp_out", "blocks.2.mlp.hook_post"
WIDTHS = {OUT: micro.WIDTH, POST: 3 * micro.WIDTH}
SITES = tuple(WIDTHS)
LATENT = 7
Wrong = type[Exception] | tuple[type[Exception], ...]


def sae_at(hook: str) -> Sae:
    return random_sae("standard", hook, WIDTHS[hook])


def ends(prompts: Prompts) -> tuple[Tensor, Tensor]:
    return torch.arange(len(prompts)), prompts.at("END")[:, 0]


@pytest.mark.parametrize("hook", SITES)
def test_latents_to_the_answer(hook: str, model: Any, twin: Twin, clean: Prompts) -> None:
    sae = sae_at(hook)
    directions = sae.W_dec
    if hook == POST:
        directions = sae.W_dec @ twin.weights["transformer.h.2.mlp.c_proj.weight"]
    weights, effects = [], []
    one = torch.ones(()).double()
    for trace, tokens, answer in zip(
        traces(twin, clean), rows(clean), answers_of(clean).tolist(), strict=True
    ):
        x = twin_latents.site_of(twin, trace, tokens, sae)[-1:]
        weights.append(twin.direct(directions, one, answer))
        scaled = twin.direct(directions, trace.final_scale[-1], answer)
        effects.append(twin_sae.encode(sae, x)[0] * scaled)
    agree(latent_logits(model, clean, sae), weights)
    agree(latent_effects(model, clean, sae), effects)


def test_effects_are_those_of_ablation_where_the_scale_is_kept(model: Any, clean: Prompts) -> None:
    """Behind the last MLP only the final norm follows: its scale corrects ablation exactly."""
    sae = sae_at(OUT)
    rows_, end = ends(clean)
    answer = answers_of(clean)
    scale = "ln_final.hook_scale"
    run, gone = (
        cache(m, clean, [scale]) for m in (model, ablate_latents(model, sae, [LATENT], at="END"))
    )
    lifted = gone.logits[rows_, end] - model_bias(model)
    lifted = lifted * gone[scale][rows_, end] / run[scale][rows_, end] + model_bias(model)
    lost = run.logits[rows_, end] - lifted
    agree(lost[rows_, answer], latent_effects(model, clean, sae)[:, LATENT], FOLDED)


def model_bias(model: Any) -> Tensor:
    bias: Tensor = model.b_U.detach()
    return bias


def test_the_scatter_names_what_matters(model: Any, clean: Prompts) -> None:
    sae = sae_at(OUT)
    effects = latent_effects(model, clean, sae).mean(0)
    mean = activations(model, clean, sae, range(sae.size)).mean(0)
    drawn = [i for i in range(sae.size) if mean[i] > 0.3]
    found = latent_scatter(model, clean, sae, named=3, above=0.3)
    logits = latent_logits(model, clean, sae).mean(0)
    assert [(p.x, p.y) for p in found.points] == [(float(logits[i]), float(mean[i])) for i in drawn]
    matter = sorted(drawn, key=lambda i: -abs(float(effects[i])))[:3]
    assert {p.label for p in found.points if p.label} == {str(i) for i in matter}
    scaled = latent_scatter(model, clean, sae, named=3, above=0.3, scaled=True)
    assert [p.x for p in scaled.points] == [float(effects[i]) for i in drawn]
    assert Figure.from_json(found.to_json()) == found


def test_a_scatter_of_nothing(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotMeasured, match=r"no latent has a mean activation over 1e\+06 at END"):
        latent_scatter(model, clean, sae_at(OUT), above=1e6)


def test_text_coloured_by_activation(model: Any, clean: Prompts) -> None:
    sae = sae_at(OUT)
    words = [[str(token) for token in row.tolist()] for row in rows(clean)]
    found = activation_map(model, clean, words, sae, [LATENT, 2])
    x = cache(model, clean, [OUT])[OUT]
    for name, latent in (("latent 7", LATENT), ("latent 2", 2)):
        for row, values in enumerate(found.frames[name]):
            expected = twin_sae.encode(sae, x[row, : len(words[row])])[:, latent]
            agree(torch.tensor(list(values)).double(), expected, 1e-6)
    with pytest.raises(ValueError, match="one for each token"):
        activation_map(model, clean, [row[1:] for row in words], sae, [LATENT])


def test_without_answers_nothing_is_written_toward_them(model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match="have no answers"):
        latent_logits(model, replace(clean, answer=None), sae_at(OUT))


def test_what_an_sae_elsewhere_writes_is_not_applicable(model: Any) -> None:
    with pytest.raises(NotApplicable, match="needs one on"):
        written(model, random_sae("standard", "blocks.1.hook_resid_post", micro.WIDTH))


Direct = Callable[[Any, Prompts, Sae], Tensor]
DIRECT: dict[str, Direct] = {
    "latent_logits": latent_logits,
    "latent_effects": latent_effects,
    "written": lambda model, prompts, sae: written(model, sae),
    "weight_boosts": lambda model, prompts, sae: weight_boosts(model, sae, [LATENT]),
}


@pytest.mark.parametrize("of", DIRECT)
@pytest.mark.parametrize("place", ["hook_mlp_out", "mlp.hook_post"])
def test_behind_a_norm_no_latent_just_adds(of: str, place: str, clean: Prompts) -> None:
    gemma = architectures.bridge("Gemma2")
    sae = random_sae("standard", f"blocks.1.{place}", 48 if place.endswith("post") else 32)
    with pytest.raises(NotApplicable, match="MLP1 writes is normalised again"):
        DIRECT[of](gemma, clean, sae)


@pytest.mark.parametrize("of", DIRECT)
def test_under_a_cap_no_latent_just_adds(
    of: str, model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    DIRECT[of](model, clean, sae_at(OUT))
    monkeypatch.setattr(model.cfg, "output_logits_soft_cap", 30.0, raising=False)
    with pytest.raises(NotApplicable, match="soft-capped: no part of it just adds"):
        DIRECT[of](model, clean, sae_at(OUT))


def test_rank_agreement_is_spearmans() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 9, generator=generator).double()
    y = (2 * torch.randn(6, 9, generator=generator)).round().double()  # with ties
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    agree(rank_agreement(x, y), torch.tensor(expected).double(), 1e-12)
    agree(rank_agreement(x, x.exp()), torch.ones(6).double(), 1e-12)
    agree(rank_agreement(x, -x), -torch.ones(6).double(), 1e-12)


Ranked = Callable[[], Tensor]


@pytest.mark.parametrize(
    ("rank", "error", "told"),
    [
        (lambda: rank_agreement(torch.eye(3), torch.ones(3, 3)), NotMeasured, "the same for all"),
        (lambda: rank_agreement(torch.eye(2), torch.eye(2)), ValueError, "three or more"),
        (
            lambda: rank_agreement(torch.eye(3), torch.eye(3)[:2]),
            (ValueError, TypeCheckError),
            "'y'|the same",
        ),
    ],
)
def test_ranks_of_nothing(rank: Ranked, error: Wrong, told: str) -> None:
    with pytest.raises(error, match=told):
        rank()
