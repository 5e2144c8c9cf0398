"""Tokens that latents raise and lower, by ablation and by weights, and which tokens take part."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro, twin_sae
from claimlens.ci.selftests.kernels.samples import ROUNDING, agree, rows
from claimlens.ci.selftests.twin import Twin
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.kernels.sae import Sae, site
from claimlens.circuits.kernels.token_boosts import (
    ablation_boosts,
    boost_bars,
    boost_margin,
    eligible,
    log_probs,
    rank_tokens,
    token_counts,
    weight_boosts,
)
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotMeasured

OUT, POST = "blocks.1.hook_mlp_out", "blocks.1.mlp.hook_post"
LATENTS = (2, 7, 11)
ALL = torch.ones(6).bool()


def sae_at(hook: str) -> Sae:
    return random_sae("standard", hook, micro.WIDTH if hook == OUT else 3 * micro.WIDTH)


@pytest.mark.parametrize("hook", [OUT, POST])
def test_boosts_by_ablation(hook: str, model: Any, twin: Twin, clean: Prompts) -> None:
    sae = sae_at(hook)
    w_out = twin.weights["transformer.h.1.mlp.c_proj.weight"]
    x, expected = site(model, clean, sae), []
    for row, tokens in enumerate(rows(clean)):
        latents = twin_sae.encode(sae, x[row, len(tokens) - 1][None])
        lost = twin_sae.decode(sae, latents) - twin_sae.decode(sae, latents, LATENTS)
        lost = lost if hook == OUT else lost @ w_out

        def moved(written: Tensor, lost: Tensor = lost) -> Tensor:
            return torch.cat([written[:-1], written[-1:] - lost])

        before, after = twin.run(tokens).logits[-1], twin.run(tokens, None, {1: moved}).logits[-1]
        expected.append(before.log_softmax(0) - after.log_softmax(0))
    agree(ablation_boosts(model, clean, sae, LATENTS), expected)


@pytest.mark.parametrize("hook", [OUT, POST])
def test_boosts_by_weights(hook: str, model: Any, twin: Twin) -> None:
    sae, w = sae_at(hook), twin.weights
    rows_ = sae.W_dec[list(LATENTS)]
    written = rows_ if hook == OUT else rows_ @ w["transformer.h.1.mlp.c_proj.weight"]
    written = written - written.mean(1, keepdim=True)
    unembed = w["lm_head.weight"] - w["lm_head.weight"].mean(0)
    agree(weight_boosts(model, sae, LATENTS), written * w["transformer.ln_f.weight"] @ unembed.T)


def test_a_latent_that_is_silent_boosts_nothing(model: Any, clean: Prompts) -> None:
    sae = sae_at(OUT)
    assert sae.b_enc is not None
    silent = random_sae(
        "standard", OUT, micro.WIDTH, b_enc=sae.b_enc.index_fill(0, torch.tensor(2), -99.0)
    )
    assert not bool(ablation_boosts(model, clean, silent, [2]).any())


def test_counts_are_streamed_and_leave_padding_out(clean: Prompts) -> None:
    expected = torch.zeros(400, dtype=torch.long)
    for tokens in rows(clean):
        for token in tokens.tolist():
            expected[token] += 1
    batches = (clean.select(torch.tensor([i])) for i in range(len(clean)))
    assert torch.equal(token_counts(batches, 400), expected)
    assert int(expected[0]) == len(clean)  # BOS, once each: padding has the same id


def test_the_floor_and_the_filter() -> None:
    means, counts = torch.tensor([-1.0, -9.0, -9.1, -2.0]), torch.tensor([101, 500, 500, 100])
    assert eligible(means).tolist() == [True, True, False, True]
    assert eligible(counts=counts).tolist() == [True, True, True, False]
    assert eligible(means, counts).tolist() == [True, True, False, False]
    assert eligible(means, counts, floor=-5.0, over=50).tolist() == [True, False, False, True]


def test_an_empty_choice_of_tokens_is_not_measured() -> None:
    with pytest.raises(NotMeasured, match="no token has a mean log probability of at least -9"):
        eligible(torch.full((4,), -10.0))
    with pytest.raises(NotMeasured, match="more than 100 times"):
        eligible(counts=torch.full((4,), 100))
    with pytest.raises(ValueError, match="give mean_log_probs"):
        eligible()


def test_tokens_are_ranked_by_sign_and_strength() -> None:
    boosts = torch.tensor([0.5, -0.25, 3.0, 0.0, -4.0, 1.0])
    found = rank_tokens(boosts, ALL, 2)
    assert found.raised == ((2, 3.0), (5, 1.0))
    assert found.lowered == ((4, -4.0), (1, -0.25))
    without = ALL.clone()
    without[[2, 4]] = False
    few = rank_tokens(boosts, without, 6)
    assert [token for token, _ in few.raised] == [5, 0]
    assert [token for token, _ in few.lowered] == [1]
    bars = boost_bars("Boosts", found, "abcdef".__getitem__).bars
    assert [bar.name for bar in bars] == ["c", "f", "b", "e"]


def test_k_larger_than_the_vocabulary_is_refused() -> None:
    for k in (0, 7):
        with pytest.raises(ValueError, match=f"k={k}: expected 1 to 6, the size of the vocabulary"):
            rank_tokens(torch.zeros(6), ALL, k)


def test_the_margin_is_over_the_strongest_other() -> None:
    boosts = torch.tensor([[1.0, 2.0, 9.0], [3.0, 1.5, 9.0]])
    among = torch.tensor([True, True, False])
    agree(boost_margin(boosts, 0, among), torch.tensor([-1.0, 1.5]).double())
    agree(boost_margin(boosts, 0, ALL[:3]), torch.tensor([-8.0, -6.0]).double())
    with pytest.raises(NotMeasured, match="token 2 is under the floor or too rare"):
        boost_margin(boosts, 2, among)
    with pytest.raises(NotMeasured, match="token 0 is the only one left"):
        boost_margin(boosts, 0, torch.tensor([True, False, False]))


def test_log_probs_are_after_end(model: Any, twin: Twin, clean: Prompts) -> None:
    expected = [twin.run(tokens).logits[-1].log_softmax(0) for tokens in rows(clean)]
    agree(log_probs(model, clean), expected)
    agree(log_probs(model, clean).exp().sum(1), torch.ones(len(clean)).double(), ROUNDING)
