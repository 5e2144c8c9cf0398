"""Sparsity, explained variance, density and dead latents, streamed, against one plain loop."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro, twin_sae
from claimlens.ci.selftests.kernels.samples import agree
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.kernels import sae_statistics as module
from claimlens.circuits.kernels.sae import Sae, l0, residual_variance, site
from claimlens.circuits.kernels.sae_statistics import sae_statistics
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotMeasured

OUT = "blocks.1.hook_mlp_out"
SILENT = 4


def sae_at(**changes: Any) -> Sae:
    """An SAE one of whose latents can never fire."""
    sae = random_sae("jumprelu", OUT, micro.WIDTH, **changes)
    assert sae.b_enc is not None
    return replace(sae, b_enc=sae.b_enc.index_fill(0, torch.tensor(SILENT), -1e3))


def tokens_of(model: Any, prompts: Prompts, sae: Sae) -> Tensor:
    x = site(model, prompts, sae)
    return torch.cat([x[i, 1:n] for i, n in enumerate(prompts.lengths.tolist())])


def singly(prompts: Prompts) -> Iterator[Prompts]:
    for row in range(len(prompts)):
        yield prompts.select(torch.tensor([row]))


def test_everything_agrees_with_one_loop(model: Any, clean: Prompts) -> None:
    sae = sae_at()
    x = tokens_of(model, clean, sae)
    latents = twin_sae.encode(sae, x)
    error = (x - twin_sae.decode(sae, latents)).square().sum()
    spread = (x - x.mean(0)).square().sum()
    found = sae_statistics(model, singly(clean), sae)
    assert found.tokens == len(x)
    assert found.l0 == pytest.approx(float((latents > 0).sum()) / len(x))
    assert found.explained_variance == pytest.approx(1 - float(error / spread), abs=1e-9)
    agree(found.density, (latents > 0).double().mean(0), 1e-12)
    means = [row[row > 0].mean() if bool((row > 0).any()) else row.sum() for row in latents.T]
    agree(found.mean_when_active, torch.stack(means), 1e-9)
    assert found.dead == tuple((latents.sum(0) == 0).nonzero()[:, 0].tolist())


def test_batches_of_any_size_give_the_same(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = sae_at()
    whole = sae_statistics(model, [clean], sae)
    one_by_one = sae_statistics(model, singly(clean), sae)
    monkeypatch.setattr(module, "MAX_ELEMENTS", 7 * sae.size)
    seven = sae_statistics(model, [clean], sae)
    for found in (one_by_one, seven):
        assert torch.equal(found.fired, whole.fired)
        assert found.error == pytest.approx(whole.error, rel=1e-12)
        assert found.spread == pytest.approx(whole.spread, rel=1e-12)


def test_it_agrees_with_the_values_per_prompt(model: Any, repeated: Prompts) -> None:
    """Prompts of one length: means over tokens are means over prompts."""
    sae = sae_at()
    found = sae_statistics(model, [repeated], sae)
    assert found.l0 == pytest.approx(float(l0(model, repeated, sae).mean()), abs=1e-5)
    error, spread = residual_variance(model, repeated, sae)
    assert found.explained_variance == pytest.approx(1 - float(error.mean() / spread.mean()))


# --- dead latents are reported -------------------------------------------------------------------


def test_a_latent_that_never_fires_is_reported_and_nothing_is_nan(
    model: Any, clean: Prompts
) -> None:
    found = sae_statistics(model, [clean], sae_at())
    assert SILENT in found.dead
    assert found.dead_share == len(found.dead) / 40
    assert float(found.density[SILENT]) == float(found.mean_when_active[SILENT]) == 0
    for values in (found.density, found.mean_when_active):
        assert bool(values.isfinite().all())
    figure = found.density_histogram()
    assert len(figure.values) == 40 - len(found.dead)
    assert f"{len(found.dead)} dead" in figure.title
    assert max(figure.values) <= 0
    assert math.isfinite(min(figure.values))


def test_an_sae_all_of_whose_latents_are_dead(model: Any, clean: Prompts) -> None:
    sae = sae_at(threshold=torch.full((40,), 1e3).double())
    found = sae_statistics(model, [clean], sae)
    assert (found.l0, found.dead_share) == (0, 1)
    assert found.explained_variance < 1
    with pytest.raises(NotMeasured, match="no latent fired"):
        found.density_histogram()


def test_more_data_can_only_wake_latents(model: Any, clean: Prompts, repeated: Prompts) -> None:
    sae = sae_at()
    few = sae_statistics(model, [clean.select(torch.tensor([0]))], sae)
    many = sae_statistics(model, [clean, repeated], sae)
    assert set(many.dead) <= set(few.dead)


def test_an_empty_stream_is_not_measured(model: Any, clean: Prompts) -> None:
    none = clean.select(torch.tensor([], dtype=torch.long))
    for batches in ([], [none]):
        with pytest.raises(NotMeasured, match="the stream of prompts is empty"):
            sae_statistics(model, batches, sae_at())


def test_a_constant_activation_has_no_variance_to_explain(model: Any, clean: Prompts) -> None:
    sae = sae_at()
    found = replace(sae_statistics(model, [clean], sae), spread=0.0)
    with pytest.raises(NotMeasured, match="no variance to explain"):
        _ = found.explained_variance


# --- memory --------------------------------------------------------------------------------------


def test_one_batch_is_held_at_a_time(model: Any, clean: Prompts) -> None:
    alive: list[weakref.ref[Prompts]] = []

    def batches() -> Iterator[Prompts]:
        for batch in singly(clean):
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 1
            alive.append(weakref.ref(batch))
            yield batch
            del batch

    sae_statistics(model, batches(), sae_at())
    assert len(alive) == len(clean)
