"""The prompts that activate a latent most, streamed, against sorting everything at once."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro, twin_sae
from claimlens.ci.selftests.kernels.samples import agree, rows
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.kernels import max_activations as module
from claimlens.circuits.kernels.max_activations import Example, max_activations, peaks
from claimlens.circuits.kernels.sae import Sae, site
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotMeasured

OUT = "blocks.1.hook_mlp_out"
SILENT, RARE = 4, 9


def sae_at() -> Sae:
    """An SAE with a latent that never fires, and one that rarely does."""
    sae = random_sae("standard", OUT, micro.WIDTH)
    assert sae.b_enc is not None
    bias = sae.b_enc.index_fill(0, torch.tensor(SILENT), -1e3)
    return replace(sae, b_enc=bias.index_fill(0, torch.tensor(RARE), -2.0))


def batches(prompts: Prompts, size: int) -> Iterator[Prompts]:
    rows_ = torch.arange(len(prompts))
    for start in range(0, len(prompts), size):
        yield prompts.select(rows_[start : start + size])


def sorted_examples(model: Any, prompts: Prompts, sae: Sae, latent: int, k: int) -> list[Example]:
    """Every prompt's highest token, sorted: what the stream must come to."""
    x, found = site(model, prompts, sae), []
    for row, tokens in enumerate(rows(prompts)):
        values = twin_sae.encode(sae, x[row, 1 : len(tokens)])[:, latent]
        position = int(values.argmax())
        if float(values[position]) > 0:
            words = tuple(tokens.tolist())
            found.append(Example(float(values[position]), row, position + 1, words))
    return sorted(found, key=lambda example: -example.activation)[:k]


@pytest.mark.parametrize("size", [1, 5, 12])
@pytest.mark.parametrize("latent", [0, 17, RARE])
def test_the_top_prompts(latent: int, size: int, model: Any, clean: Prompts) -> None:
    sae = sae_at()
    found = max_activations(model, batches(clean, size), sae, k=4).examples(latent)
    expected = sorted_examples(model, clean, sae, latent, 4)
    assert [replace(e, activation=0) for e in found] == [replace(e, activation=0) for e in expected]
    assert [e.activation for e in found] == pytest.approx([e.activation for e in expected])


def test_the_rare_latent_is_rare(model: Any, clean: Prompts) -> None:
    found = max_activations(model, [clean], sae_at(), k=len(clean))
    assert 0 < len(found.examples(RARE)) < len(clean)


def test_all_at_once_is_every_prompts_maximum(model: Any, clean: Prompts) -> None:
    sae = sae_at()
    found = max_activations(model, batches(clean, 5), sae, k=len(clean))
    best, position = peaks(model, clean, sae)
    agree(found.activation, best.sort(dim=0, descending=True).values, 1e-12)
    assert found.prompts == len(clean)
    strongest = best.argmax(0)
    fires = best.amax(0) > 0
    assert torch.equal(found.prompt[0][fires], strongest[fires])
    assert torch.equal(found.position[0], position.gather(0, strongest[None])[0].where(fires, 0))


def test_bos_and_padding_never_count(model: Any, clean: Prompts) -> None:
    sae = sae_at()
    sae = replace(sae, W_enc=torch.zeros_like(sae.W_enc), b_enc=torch.ones(40).double())
    _, position = peaks(model, clean, sae)  # equal everywhere: the first that counts
    assert set(position.flatten().tolist()) == {1}


def test_a_batch_is_taken_in_parts_under_the_bound(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae, seen = sae_at(), list[int]()
    whole = max_activations(model, [clean], sae, k=3)
    monkeypatch.setattr(module, "MAX_ELEMENTS", 2 * clean.tokens.shape[1] * sae.size)

    def counting(model: Any, prompts: Prompts, sae: Sae) -> tuple[Tensor, Tensor]:
        seen.append(len(prompts))
        return peaks(model, prompts, sae)

    monkeypatch.setattr(module, "peaks", counting)
    found = max_activations(model, [clean], sae, k=3)
    assert seen == [2] * 6
    assert torch.equal(found.prompt, whole.prompt)
    agree(found.activation, whole.activation, 1e-12)


def test_a_stream_that_forgets_is_noticed(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the claim about streamed maxima compares differs where a batch replaces the others."""
    sae, take = sae_at(), module._take

    def forgetting(kept: module.MaxActivations, *given: Any) -> None:
        kept.activation.zero_()
        take(kept, *given)

    monkeypatch.setattr(module, "_take", forgetting)
    found = max_activations(model, batches(clean, 5), sae, k=len(clean))
    whole = peaks(model, clean, sae)[0].sort(dim=0, descending=True).values
    assert float((found.activation - whole).abs().max()) > 1e-3


# --- latents that never fire, and bad input ------------------------------------------------------


def test_a_latent_that_never_fires_has_no_examples_and_is_named(model: Any, clean: Prompts) -> None:
    found = max_activations(model, [clean], sae_at())
    assert found.examples(SILENT) == ()
    assert found.silent == (SILENT,)
    assert float(found.maximum[SILENT]) == 0
    assert bool(found.activation.isfinite().all())


def test_more_examples_than_prompts_are_as_many_as_there_are(model: Any, clean: Prompts) -> None:
    found = max_activations(model, batches(clean, 5), sae_at(), k=100)
    assert len(found.examples(0)) <= len(clean)
    assert [e.activation for e in found.examples(0)] == sorted(
        (e.activation for e in found.examples(0)), reverse=True
    )


def test_bad_input_is_refused(model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match="k=0 examples per latent"):
        max_activations(model, [clean], sae_at(), k=0)
    with pytest.raises(NotMeasured, match="the stream is empty"):
        max_activations(model, [], sae_at())
    found = max_activations(model, [clean], sae_at())
    for latent in (-1, 40):
        with pytest.raises(ValueError, match=f"no latent {latent}: it has 40"):
            found.examples(latent)


# --- memory --------------------------------------------------------------------------------------


def test_memory_is_one_batch_and_the_examples_named(model: Any, repeated: Prompts) -> None:
    alive: list[weakref.ref[Prompts]] = []

    def endless() -> Iterator[Prompts]:
        for _ in range(8):
            batch = repeated.select(torch.arange(len(repeated)))
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 1
            alive.append(weakref.ref(batch))
            yield batch
            del batch

    found = max_activations(model, endless(), sae_at(), k=2)
    named = set(found.prompt.flatten().tolist()) - {-1}
    assert found.prompts == 8 * len(repeated)
    assert set(found.rows) == named
    assert max(named) < 3 * len(repeated)  # of equal ones the earlier stay
