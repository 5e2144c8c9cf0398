"""An SAE in the model: at one position or all, on an MLP's output or neurons, latents ablated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro, twin_sae
from claimlens.ci.selftests.kernels.samples import ROUNDING, agree, index_of, rows
from claimlens.ci.selftests.twin import Twin
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.kernels.ablate import resample_ablate
from claimlens.circuits.kernels.cache import cache
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.kernels.sae import (
    Sae,
    ablate_latents,
    ablate_site,
    active,
    check_fits,
    latents_at,
    site,
    splice,
)
from claimlens.circuits.metrics import end_logits, logit_diff
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.circuits.verdict import NotMeasured

OUT, POST = "blocks.1.hook_mlp_out", "blocks.1.mlp.hook_post"
WIDTHS = {OUT: micro.WIDTH, POST: 3 * micro.WIDTH}
SITES = tuple(WIDTHS)
LATENTS = (2, 7, 11, 30)


def sae_at(hook: str, **changes: Any) -> Sae:
    return random_sae("standard", hook, WIDTHS[hook], **changes)


def changed_logits(
    model: Any, twin: Twin, prompts: Prompts, sae: Sae, change: Any, at: str | None
) -> list[Tensor]:
    """Logits at END of the twin, whose MLP1 writes what `change` makes of the SAE's site."""
    places = None if at is None else index_of(prompts, at)
    w_out = twin.weights["transformer.h.1.mlp.c_proj.weight"]
    found = []
    for row, tokens in enumerate(rows(prompts)):
        before = site(model, prompts, sae)[row, : len(tokens)]
        after = change(before)
        if places is not None:
            kept = before.clone()
            kept[places[row]] = after[places[row]]
            after = kept
        step = after - before if sae.hook == OUT else (after - before) @ w_out

        def moved(written: Tensor, step: Tensor = step) -> Tensor:
            return written + step

        logits = twin.run(tokens, mlp_changes={1: moved}).logits[-1]
        found.append(logits - logits.mean())
    return found


def centred(logits: Tensor) -> Tensor:
    return logits - logits.mean(1, keepdim=True)


@pytest.mark.parametrize("at", [None, "END", "S2"])
@pytest.mark.parametrize("hook", SITES)
def test_splicing(hook: str, at: str | None, model: Any, twin: Twin, clean: Prompts) -> None:
    sae = sae_at(hook)
    expected = changed_logits(
        model, twin, clean, sae, lambda x: twin_sae.decode(sae, twin_sae.encode(sae, x)), at
    )
    agree(centred(end_logits(splice(model, sae, at), clean)), expected)


@pytest.mark.parametrize("rest", ["raw", "encoded"])
@pytest.mark.parametrize("at", [None, "END", "S2"])
@pytest.mark.parametrize("hook", SITES)
def test_ablating_latents(
    hook: str,
    at: str | None,
    rest: Literal["raw", "encoded"],
    model: Any,
    twin: Twin,
    clean: Prompts,
) -> None:
    sae = sae_at(hook)

    def without(x: Tensor) -> Tensor:
        found = twin_sae.encode(sae, x)
        whole, less = twin_sae.decode(sae, found), twin_sae.decode(sae, found, LATENTS)
        return less if rest == "encoded" else x - (whole - less)

    expected = changed_logits(model, twin, clean, sae, without, at)
    agree(centred(end_logits(ablate_latents(model, sae, LATENTS, at, rest), clean)), expected)


@pytest.mark.parametrize("hook", SITES)
def test_ablating_the_site_at_one_position_leaves_the_others(
    hook: str, model: Any, clean: Prompts
) -> None:
    sae = sae_at(hook)
    before = site(model, clean, sae)
    for over in (None, clean):
        after = cache(ablate_site(model, sae, over, at="S2"), clean, [hook])[hook]
        moved = (after != before).any(-1)
        where = torch.zeros_like(moved).scatter(1, clean.at("S2"), True)
        assert torch.equal(moved, where)
    tokens = [before[i, 1:n] for i, n in enumerate(clean.lengths.tolist())]
    rows_, place = torch.arange(len(clean)), clean.at("S2")[:, 0]
    agree(after[rows_, place], torch.cat(tokens).mean(0).expand(len(clean), -1), ROUNDING)


# --- endpoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", SITES)
def test_the_endpoints_of_ablation(hook: str, model: Any, clean: Prompts) -> None:
    """Without any latent an encoded activation is b_dec; a raw one loses the reconstruction."""
    sae = sae_at(hook)
    everything = range(sae.size)
    bare = replace(sae, W_dec=torch.zeros_like(sae.W_dec))
    agree(
        logit_diff(ablate_latents(model, sae, everything, rest="encoded"), clean),
        logit_diff(splice(model, bare), clean),
        ROUNDING,
    )
    x = site(model, clean, sae)
    raw = cache(ablate_latents(model, sae, everything), clean, [hook])[hook]
    agree(raw, x - sae.decode(sae.encode(x)) + sae.b_dec, ROUNDING)


def test_a_latent_without_a_direction_changes_nothing(model: Any, clean: Prompts) -> None:
    weights = sae_at(OUT).W_dec.clone()
    weights[4] = 0
    sae = sae_at(OUT, W_dec=weights)
    assert bool(active(model, clean, sae, [4], "S2").any())
    without = logit_diff(ablate_latents(model, sae, [4]), clean)
    assert torch.equal(without, logit_diff(model, clean))


def test_inactive_latents_are_a_declared_no_op_that_is_reported(model: Any, clean: Prompts) -> None:
    bias = sae_at(OUT).b_enc
    assert bias is not None
    silent = sae_at(OUT, b_enc=bias.index_fill(0, torch.tensor([4]), -100.0))
    for at in (None, "END"):
        without = ablate_latents(model, silent, [4], at)
        assert without.edits[0].noop
        assert torch.equal(logit_diff(without, clean), logit_diff(model, clean))
        encoded = ablate_latents(model, silent, [4], at, "encoded")
        assert not encoded.edits[0].noop
        agree(logit_diff(encoded, clean), logit_diff(splice(model, silent, at), clean), 0)
    assert not bool(active(model, clean, silent, [4]).any())
    assert bool(active(model, clean, silent, [4, *range(10, 20)]).any())


def test_active_is_per_prompt_and_over_the_threshold(model: Any, clean: Prompts) -> None:
    sae = sae_at(OUT)
    found = latents_at(model, clean, sae)[:, 0, list(LATENTS)]
    for threshold in (0.0, 0.3):
        expected = (found > threshold).any(1)
        assert torch.equal(active(model, clean, sae, LATENTS, "END", threshold), expected)
    each = torch.stack([active(model, clean, sae, [latent]) for latent in range(sae.size)])
    assert bool((each.any(1) & ~each.all(1)).any())


# --- what two edits share ------------------------------------------------------------------------


def test_equal_tokens_with_other_labels_are_another_run(model: Any, pairs: PromptPairs) -> None:
    sae, moved = sae_at(OUT), pairs.shuffled(1).clean
    edit = splice(model, sae, "S2")
    alone = end_logits(edit, pairs.clean), end_logits(edit, moved)
    with remembering(Memory()):
        for _ in range(2):
            assert torch.equal(end_logits(edit, pairs.clean), alone[0])
            assert torch.equal(end_logits(edit, moved), alone[1])
            assert torch.equal(end_logits(splice(model, sae, "IO"), pairs.clean), alone[0]) is False
    assert not torch.equal(*alone)


def test_what_is_taken_from_a_run_depends_on_its_labels(model: Any, pairs: PromptPairs) -> None:
    edit, sources = splice(model, sae_at(OUT), "S2"), (pairs.corrupted, pairs.shuffled(1).corrupted)

    def found() -> list[Tensor]:
        given = [source for source in sources if source is not None]
        return [logit_diff(resample_ablate(edit, Head(2, 0), p), pairs.clean) for p in given]

    alone = found()
    with remembering(Memory()):
        assert torch.equal(torch.stack(found()), torch.stack(alone))
    assert not torch.equal(*alone)


def test_each_edit_of_an_sae_has_its_own_run(model: Any, clean: Prompts) -> None:
    sae = sae_at(OUT)

    def edits() -> list[Any]:
        return [
            splice(model, sae),
            splice(model, sae, "END"),
            splice(model, sae_at(OUT, b_dec=sae.b_dec + 1)),
            ablate_site(model, sae),
            ablate_site(model, sae, clean),
            ablate_latents(model, sae, [2]),
            ablate_latents(model, sae, [2], rest="encoded"),
            ablate_latents(model, sae, [7]),
        ]

    alone = [logit_diff(edit, clean) for edit in edits()]
    with remembering(Memory()):
        found = [logit_diff(edit, clean) for edit in edits()]
    assert torch.equal(torch.stack(found), torch.stack(alone))
    assert len({tuple(values.tolist()) for values in alone}) == len(alone)


# --- bad input -----------------------------------------------------------------------------------


def test_an_sae_of_another_width_is_refused(model: Any, clean: Prompts) -> None:
    wide = random_sae("topk", OUT, micro.WIDTH + 1)
    told = f"the SAE reads 33 dimensions, but {OUT} has 32"
    with pytest.raises(NotMeasured, match=told):
        check_fits(model, wide)
    uses: list[Callable[[], object]] = [
        lambda: site(model, clean, wide),
        lambda: logit_diff(splice(model, wide), clean),
        lambda: logit_diff(ablate_site(model, wide), clean),
        lambda: logit_diff(ablate_latents(model, wide, [0], "END"), clean),
    ]
    for use in uses:
        with pytest.raises(NotMeasured, match=told):
            use()


def test_the_neurons_have_the_mlps_width(model: Any) -> None:
    check_fits(model, sae_at(POST))
    with pytest.raises(NotMeasured, match=r"reads 32 dimensions, but .*hook_post has 96"):
        check_fits(model, random_sae("topk", POST, micro.WIDTH))
    with pytest.raises(NotMeasured, match=r"reads 31 dimensions, but .* has 32"):
        check_fits(model, random_sae("topk", "blocks.0.hook_resid_pre", micro.WIDTH - 1))


def test_an_sae_of_one_head_is_not_applied_to_every_head(model: Any, clean: Prompts) -> None:
    z = "blocks.1.attn.hook_z"
    of_a_head = random_sae("topk", z, micro.WIDTH // micro.HEADS)
    told = rf"{z} has shape .*; an SAE reads \[batch pos d_in\]"
    with pytest.raises(NotMeasured, match=told):
        site(model, clean, of_a_head)
    for changed in (
        splice(model, of_a_head),
        splice(model, of_a_head, "END"),
        ablate_site(model, of_a_head),
        ablate_latents(model, of_a_head, [0]),
    ):
        with pytest.raises(NotMeasured, match=told):
            cache(changed, clean)


def test_an_sae_of_another_hook_is_refused(model: Any, clean: Prompts) -> None:
    lost = random_sae("topk", "blocks.7.hook_mlp_out", micro.WIDTH)
    uses: list[Callable[[], object]] = [
        lambda: check_fits(model, lost),
        lambda: site(model, clean, lost),
        lambda: splice(model, lost),
        lambda: ablate_site(model, lost),
        lambda: ablate_latents(model, lost, [1]),
    ]
    for use in uses:
        with pytest.raises(NotMeasured, match=r"'blocks.7.hook_mlp_out', which this model lacks"):
            use()


def test_latents_that_are_not_there_are_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="no latents given"):
        ablate_latents(model, sae_at(OUT), [])
    for latent in (-1, 40):
        with pytest.raises(ValueError, match=f"no latent {latent}: it has 40"):
            ablate_latents(model, sae_at(OUT), [1, latent])


@pytest.mark.parametrize("k", [0, 41])
def test_more_latents_than_there_are_cannot_be_active(k: int) -> None:
    with pytest.raises(ValueError, match=f"40 latents has k={k}"):
        sae_at(OUT, k=k)
