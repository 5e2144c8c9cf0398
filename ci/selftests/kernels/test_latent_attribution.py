"""What latents read: against the twin, TransformerLens and other architectures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures, micro, twin_latents
from claimlens.ci.selftests.kernels.samples import (
    FOLDED,
    TOLERANCES,
    agree,
    rows,
    traces,
)
from claimlens.ci.selftests.twin import Twin
from claimlens.ci.selftests.twin_sae import ARCHITECTURES, random_sae
from claimlens.circuits.kernels import latent_attribution
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.latent_attribution import (
    Neurons,
    Parts,
    feature_attribution,
    mlp_site,
    upstream,
)
from claimlens.circuits.kernels.latents import activations, active_prompts
from claimlens.circuits.kernels.sae import Sae
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

OUT, POST = "blocks.2.hook_mlp_out", "blocks.2.mlp.hook_post"
WIDTHS = {OUT: micro.WIDTH, POST: 3 * micro.WIDTH}
SITES = tuple(WIDTHS)
LAYER, LATENT = 2, 7
LABELS = (
    *("embed", "pos_embed", "L0H0", "L0H1", "L1H0", "L1H1", "L2H0", "L2H1"),
    *("MLP0", "MLP1", "attention bias"),
)


def sae_at(hook: str, architecture: Any = "standard", **changes: Any) -> Sae:
    return random_sae(architecture, hook, WIDTHS[hook], **changes)


def ends(prompts: Prompts) -> tuple[Tensor, Tensor]:
    return torch.arange(len(prompts)), prompts.at("END")[:, 0]


def taken_apart(twin: Twin, prompts: Prompts, place: int = -1) -> list[twin_latents.Neurons]:
    """The neurons of MLP2 at END of each prompt."""
    runs = zip(traces(twin, prompts), rows(prompts), strict=True)
    return [twin_latents.neurons(twin, t, tokens, LAYER, len(tokens) + place) for t, tokens in runs]


def mean_parts(twin: Twin, prompts: Prompts) -> dict[str, Tensor]:
    """What each component gives each neuron, mean over all tokens but BOS."""
    found: list[twin_latents.Neurons] = []
    for trace, tokens in zip(traces(twin, prompts), rows(prompts), strict=True):
        places = range(1, len(tokens))
        found += [twin_latents.neurons(twin, trace, tokens, LAYER, place) for place in places]
    return {name: torch.stack([f.parts[name] for f in found]).mean(0) for name in LABELS}


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_components_of_an_mlps_input(
    dtype: str, tolerance: float, twin: Twin, clean: Prompts
) -> None:
    labels, found = upstream(micro.bridge(dtype), clean, LAYER, ends(clean))
    assert labels == LABELS
    for row, (trace, tokens) in enumerate(zip(traces(twin, clean), rows(clean), strict=True)):
        raw = twin_latents.stream(twin, trace, tokens, LAYER, len(tokens) - 1)
        whole = torch.stack(list(raw.values())).sum(0)
        scale = (whole.var(unbiased=False) + twin.eps).sqrt()
        expected = [(raw[name] - raw[name].mean()) / scale for name in LABELS]
        agree(found[row], expected, tolerance)


def test_components_agree_with_transformer_lens(model: Any, clean: Prompts) -> None:
    labels, found = upstream(model, clean, LAYER, ends(clean))
    for row, tokens in enumerate(rows(clean)[:4]):
        _, stored = model.run_with_cache(tokens[None])
        theirs, names = stored.get_full_resid_decomposition(
            LAYER,
            mlp_input=True,
            apply_ln=True,
            expand_neurons=False,
            return_labels=True,
            pos_slice=-1,
        )
        expected = dict(zip(names, theirs[:, 0].detach(), strict=True))
        for label, value in zip(labels, found[row], strict=True):
            agree(value, expected[their_label(label)], FOLDED)


def their_label(label: str) -> str:
    return {"attention bias": "bias"}.get(
        label, f"{label[3:]}_mlp_out" if label.startswith("MLP") else label
    )


@pytest.mark.parametrize("neurons", ["zero", "mean", "gain"])
@pytest.mark.parametrize("hook", SITES)
def test_feature_attribution(
    hook: str, neurons: Neurons, model: Any, twin: Twin, clean: Prompts, corrupted: Prompts
) -> None:
    sae = sae_at(hook)
    mean = mean_parts(twin, corrupted) if neurons == "mean" else None
    found = feature_attribution(model, clean, sae, LATENT, neurons=neurons, over=corrupted)
    assert found.labels == (*LABELS, "own bias")
    for row, at in enumerate(taken_apart(twin, clean)):
        expected = twin_latents.attribution(twin, at, sae, LATENT, neurons, mean)
        wanted = torch.tensor([expected[name] for name in found.labels]).double()
        agree(found.values[row], wanted, 2e-5)


def test_attribution_at_another_position(model: Any, twin: Twin, clean: Prompts) -> None:
    sae = sae_at(OUT)
    found = feature_attribution(model, clean, sae, LATENT, at="END-1")
    for row, at in enumerate(taken_apart(twin, clean, place=-2)):
        expected = twin_latents.attribution(twin, at, sae, LATENT, "zero")
        wanted = torch.tensor([expected[name] for name in found.labels]).double()
        agree(found.values[row], wanted, 2e-5)


@pytest.mark.parametrize("hook", SITES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_through_exact_neurons_the_parts_add_up_to_the_activation(
    architecture: str, hook: str, model: Any, clean: Prompts
) -> None:
    sae = sae_at(hook, architecture)
    latent = int(activations(model, clean, sae, range(sae.size)).mean(0).argmax())
    active = activations(model, clean, sae, [latent])[:, 0]
    assert bool((active > 0).any())
    found = feature_attribution(model, clean, sae, latent, neurons="gain").total
    agree(found[active > 0], active[active > 0], 1e-9)


def test_inputs_that_an_sae_does_not_centre(model: Any, clean: Prompts) -> None:
    sae = sae_at(OUT, apply_b_dec_to_input=False)
    latent = int(activations(model, clean, sae, range(sae.size)).mean(0).argmax())
    active = activations(model, clean, sae, [latent])[:, 0]
    found = feature_attribution(model, clean, sae, latent, neurons="gain").total
    agree(found[active > 0], active[active > 0], 1e-9)


def test_an_approximate_gain_breaks_the_identity(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim that attributions add up is red on a kernel that only masks its neurons."""
    sae = sae_at(OUT)
    latent = int(activations(model, clean, sae, range(sae.size)).mean(0).argmax())

    def masked(pre: Tensor, post: Tensor) -> Tensor:
        return (post > 0).to(post.dtype)

    monkeypatch.setattr(latent_attribution, "_gain", masked)
    gap = feature_attribution(model, clean, sae, latent, neurons="gain").total
    gap = gap - activations(model, clean, sae, [latent])[:, 0]
    assert float(gap.abs().mean()) > 1e-3


def test_a_missing_component_is_noticed(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_bias(model: Any, layer: int) -> Tensor:
        return torch.zeros(micro.WIDTH).double()

    monkeypatch.setattr(latent_attribution, "attention_bias", no_bias)
    with pytest.raises(NotMeasured, match="do not add up to the input of MLP2"):
        feature_attribution(model, clean, sae_at(OUT), LATENT)


def test_an_ablated_head_gives_nothing(model: Any, clean: Prompts) -> None:
    found = feature_attribution(zero_ablate(model, Head(1, 1)), clean, sae_at(OUT), LATENT)
    assert bool((found.of("L1H1") == 0).all())


def test_the_mean_needs_prompts(model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match="over=prompts"):
        feature_attribution(model, clean, sae_at(OUT), LATENT, neurons="mean")


def test_a_gated_sae_needs_its_weights(model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match="r_mag and b_mag"):
        feature_attribution(model, clean, sae_at(OUT, "gated", r_mag=None), LATENT)


def test_parts_know_their_components() -> None:
    parts = Parts(("a", "b", "c"), torch.tensor([[1.0, 2.0, 0.5], [3.0, 4.0, 0.5]]))
    assert parts.total.tolist() == [3.5, 7.5]
    assert parts.of("b").tolist() == [2.0, 4.0]
    assert parts.top(2) == ("b", "a")
    assert parts.top(1, among=["a", "c"]) == ("a",)
    assert [(bar.name, bar.value) for bar in parts.bars("t", "u").bars] == [
        ("a", 2.0),
        ("b", 3.0),
        ("c", 0.5),
    ]
    with pytest.raises(KeyError, match="no component 'd'; they are a, b, c"):
        parts.of("d")


def test_only_prompts_on_which_the_latent_is_active(model: Any, pairs: PromptPairs) -> None:
    sae = sae_at(OUT)
    found = activations(model, pairs.clean, sae, [LATENT])[:, 0]
    bound = float(found.median())
    chosen = active_prompts(model, pairs, sae, LATENT, above=bound)
    wanted = [id for id, value in zip(pairs.ids, found.tolist(), strict=True) if value > bound]
    assert list(chosen.ids) == wanted
    assert 0 < len(chosen) < len(pairs)


def test_an_empty_set_of_active_prompts_is_no_evidence(model: Any, pairs: PromptPairs) -> None:
    with pytest.raises(NotMeasured, match=r"latent 7 is above 1e\+06 at END in none of the 12"):
        active_prompts(model, pairs, sae_at(OUT), LATENT, above=1e6)


@pytest.mark.parametrize("name", architectures.NAMES)
def test_other_architectures(name: str, clean: Prompts) -> None:
    bridge = architectures.bridge(name)
    sae = random_sae("standard", "blocks.1.hook_mlp_out", micro.WIDTH)
    latent = int(activations(bridge, clean, sae, range(sae.size)).mean(0).argmax())
    if name in ("Llama", "Gemma2"):
        with pytest.raises(NotApplicable, match="the MLP of layer 1 is gated"):
            feature_attribution(bridge, clean, sae, latent)
        return
    active = activations(bridge, clean, sae, [latent])[:, 0]
    found = feature_attribution(bridge, clean, sae, latent, neurons="gain")
    assert ("pos_embed" in found.labels) == (name == "GPT2")
    assert ("L1H0" in found.labels) == (name == "GPT2")  # side by side, an MLP reads no own heads
    agree(found.total[active > 0], active[active > 0], 1e-5)


@pytest.mark.parametrize("hook", ["blocks.1.hook_resid_post", "hook_embed"])
def test_an_sae_elsewhere_is_not_applicable(hook: str) -> None:
    sae = random_sae("standard", hook, micro.WIDTH)
    with pytest.raises(NotApplicable, match="needs one on"):
        mlp_site(sae)
