"""A latent ablated everywhere against at one position: against the twin, one position at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro, twin_sae
from claimlens.ci.selftests.kernels.samples import ROUNDING, agree, rows
from claimlens.ci.selftests.twin import Twin
from claimlens.ci.selftests.twin_latents import site_of
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.figures import Figure
from claimlens.circuits.kernels import global_local
from claimlens.circuits.kernels.global_local import (
    GlobalLocal,
    global_and_local,
    peak_latents,
)
from claimlens.circuits.kernels.sae import Sae, ablate_latents, site
from claimlens.circuits.metrics import loss, token_nats
from claimlens.circuits.parts import PromptPairs, Prompts
from claimlens.circuits.verdict import NotMeasured

LATENT, K = 7, 5


def sae_on(layer: int, silent: tuple[int, ...] = ()) -> Sae:
    """A standard SAE on an MLP's output; some of its latents never fire."""
    sae = random_sae("standard", f"blocks.{layer}.hook_mlp_out", micro.WIDTH)
    assert sae.b_enc is not None
    b_enc = sae.b_enc.clone()
    b_enc[list(silent)] = -1e6
    return replace(sae, b_enc=b_enc)


def losses(twin: Twin, tokens: Tensor, sae: Sae, places: list[int]) -> Tensor:
    """The loss of every prediction, with LATENT taken out at these positions."""
    layer = int(sae.hook.split(".")[1])
    x = site_of(twin, twin.run(tokens), tokens, sae)
    latents = twin_sae.encode(sae, x)
    step = twin_sae.decode(sae, latents, (LATENT,)) - twin_sae.decode(sae, latents)

    def without(out: Tensor) -> Tensor:
        changed = out.clone()
        changed[places] = out[places] + step[places]
        return changed

    logits = twin.run(tokens, mlp_changes={layer: without}).logits
    return -logits[:-1].log_softmax(1).gather(1, tokens[1:, None])[:, 0]


def firing(twin: Twin, prompts: Prompts, sae: Sae) -> list[Tensor]:
    """LATENT's activations at the positions that count: not BOS, not the last; 0 elsewhere."""
    found = []
    for tokens in rows(prompts):
        x = site_of(twin, twin.run(tokens), tokens, sae)
        values = twin_sae.encode(sae, x)[:, LATENT]
        values[[0, -1]] = 0
        found.append(values)
    return found


@pytest.fixture(scope="module", params=[1, 2])
def measured(request: pytest.FixtureRequest, model: Any, pairs: PromptPairs) -> GlobalLocal:
    return global_and_local(model, pairs, sae_on(request.param), LATENT, k=K, share=0.3)


@pytest.mark.parametrize("layer", [1, 2])
def test_against_the_twin(layer: int, model: Any, twin: Twin, pairs: PromptPairs) -> None:
    sae = sae_on(layer)
    found = global_and_local(model, pairs, sae, LATENT, k=K, share=0.3)
    values = firing(twin, pairs.clean, sae)
    maximum = max(float(v.max()) for v in values)
    assert found.maximum == pytest.approx(maximum, abs=1e-5)
    order = sorted(range(len(pairs)), key=lambda i: -float(values[i].max()))[:K]
    order = [i for i in order if float(values[i].max()) > 0.3 * maximum]
    assert found.pairs.ids == tuple(pairs.ids[i] for i in order)
    per_token, at_all, at_one, places = [], [], [], []
    for row, i in enumerate(order):
        tokens = rows(pairs.clean)[i]
        active = (values[i] > 0.3 * maximum).nonzero()[:, 0].tolist()
        clean, gone = (losses(twin, tokens, sae, p) for p in ([], list(range(len(tokens)))))
        per_token.append((gone - clean).mean())
        for place in active:
            places.append((row, place))
            at_all.append((gone - clean)[place])
            at_one.append((losses(twin, tokens, sae, [place]) - clean)[place])
    assert list(zip(found.row.tolist(), found.position.tolist(), strict=True)) == places
    agree(found.per_token, per_token, 2e-5)
    agree(found.at_all, at_all, 2e-5)
    agree(found.at_one, at_one, 2e-5)


def test_the_global_loss_is_that_of_all_tokens(model: Any, pairs: PromptPairs) -> None:
    sae = sae_on(1)
    found = global_and_local(model, pairs, sae, LATENT, k=K)
    without = ablate_latents(model, sae, [LATENT])
    p = found.pairs.clean
    agree(found.per_token, loss(without, p) - loss(model, p), ROUNDING)


def test_behind_the_last_layer_other_positions_do_not_matter(
    model: Any, pairs: PromptPairs
) -> None:
    """Nothing carries an ablation on to later tokens, so global and local are the same there."""
    last = global_and_local(model, pairs, sae_on(2), LATENT, k=K)
    agree(last.at_one, last.at_all, 1e-9)
    earlier = global_and_local(model, pairs, sae_on(1), LATENT, k=K)
    assert float((earlier.at_one - earlier.at_all).abs().max()) > 1e-3


def test_small_batches_give_the_same(
    model: Any, pairs: PromptPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = global_and_local(model, pairs, sae_on(1), LATENT, k=K)
    monkeypatch.setattr(global_local, "TOKENS", 1)
    agree(global_and_local(model, pairs, sae_on(1), LATENT, k=K).at_one, whole.at_one, 1e-9)


def test_means_by_prompt(measured: GlobalLocal) -> None:
    for values, means in (
        (measured.at_one, measured.one_at_a_time),
        (measured.at_all, measured.everywhere),
    ):
        expected = [values[measured.row == i].mean() for i in range(len(measured.pairs))]
        agree(means, expected, ROUNDING)
    assert Figure.from_json(measured.histogram().to_json()) == measured.histogram()
    assert tuple(measured.histogram().values) == tuple(measured.at_one.tolist())


def test_no_active_position_is_bos_or_predicts_nothing(measured: GlobalLocal) -> None:
    last = measured.pairs.clean.lengths[measured.row] - 1
    assert bool((measured.position > 0).all())
    assert bool((measured.position < last).all())


def test_labels_in_the_wrong_places_change_nothing(model: Any, pairs: PromptPairs) -> None:
    """The active positions are token indices, not labels that shuffling moves."""
    shuffled = global_and_local(model, pairs.shuffled(1), sae_on(1), LATENT, k=K)
    agree(shuffled.at_one, global_and_local(model, pairs, sae_on(1), LATENT, k=K).at_one, 1e-9)


def test_a_latent_that_never_fires_is_no_evidence(model: Any, pairs: PromptPairs) -> None:
    with pytest.raises(NotMeasured, match="latent 7 fires nowhere in the 12 prompts 'ioi'"):
        global_and_local(model, pairs, sae_on(1, silent=(LATENT,)), LATENT, k=K)


@pytest.mark.parametrize("k", [0, 13])
def test_more_prompts_than_there_are(k: int, model: Any, pairs: PromptPairs) -> None:
    with pytest.raises(ValueError, match=f"k={k} of 12 prompts"):
        global_and_local(model, pairs, sae_on(1), LATENT, k=k)


def test_the_latents_with_the_highest_peaks(model: Any, clean: Prompts) -> None:
    sae = sae_on(1)
    x = site(model, clean, sae)
    peaks = torch.zeros(sae.size).double()
    for row, length in enumerate(clean.lengths.tolist()):
        peaks = torch.maximum(peaks, sae.encode(x[row, 1:length]).amax(0))
    assert list(peak_latents(model, clean, sae, 3)) == peaks.argsort(descending=True)[:3].tolist()
    with pytest.raises(ValueError, match="k=41 latents of an SAE that has 40"):
        peak_latents(model, clean, sae, 41)
    with pytest.raises(NotMeasured, match="only 39 latents fire; 40 were asked for"):
        peak_latents(model, clean, sae_on(1, silent=(3,)), 40)


def test_the_loss_of_each_prediction(model: Any, twin: Twin, clean: Prompts) -> None:
    found = token_nats(model, clean)
    for row, tokens in enumerate(rows(clean)):
        agree(found[row, : len(tokens) - 1], losses(twin, tokens, sae_on(1), []))
