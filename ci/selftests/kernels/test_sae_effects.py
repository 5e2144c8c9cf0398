"""What an SAE keeps of the answer: attribution, conditions, and what falls without latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures, micro, twin_sae
from claimlens.ci.selftests.kernels.samples import ROUNDING, agree, rows, traces
from claimlens.ci.selftests.twin import Twin
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.kernels.decomposition import decompose
from claimlens.circuits.kernels.sae import Sae, ablate_latents, ablate_site, site, splice
from claimlens.circuits.kernels.sae_effects import (
    answer_change,
    conditions,
    interval_bars,
    split_mlp,
)
from claimlens.circuits.metrics import answer_loss, end_logits
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import Ledger, Measurement, NotApplicable, NotMeasured

OUT, POST = "blocks.1.hook_mlp_out", "blocks.1.mlp.hook_post"
WIDTHS = {OUT: micro.WIDTH, POST: 3 * micro.WIDTH}


def sae_at(hook: str, **changes: Any) -> Sae:
    return random_sae("topk", hook, WIDTHS[hook], **changes)


def answers(prompts: Prompts) -> list[int]:
    assert prompts.answer is not None
    found: list[int] = prompts.answer.tolist()
    return found


# --- the remainder -------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", [OUT, POST])
def test_reconstruction_and_error(hook: str, model: Any, twin: Twin, clean: Prompts) -> None:
    sae = sae_at(hook)
    w_out = twin.weights["transformer.h.1.mlp.c_proj.weight"]
    x = site(model, clean, sae)
    kept, error = [], []
    for row, (trace, answer) in enumerate(zip(traces(twin, clean), answers(clean), strict=True)):
        last = len(trace.final_scale) - 1
        own = x[row, last]
        rebuilt = twin_sae.decode(sae, twin_sae.encode(sae, own[None]))[0]
        lost = own - rebuilt if hook == OUT else (own - rebuilt) @ w_out
        whole = trace.mlp_out[1][last]
        scale = trace.final_scale[-1]
        kept.append(twin.direct(whole - lost, scale, answer))
        error.append(twin.direct(lost, scale, answer))
    found = split_mlp(model, clean, sae)
    agree(found.of("reconstruction"), kept)
    agree(found.of("error"), error)


@pytest.mark.parametrize("at", ["END", "S2"])
@pytest.mark.parametrize("hook", [OUT, POST])
def test_they_add_up_to_the_mlp(hook: str, at: str, model: Any, clean: Prompts) -> None:
    found = split_mlp(model, clean, sae_at(hook), at)
    agree(found.total, decompose(model, clean, at=at).of("MLP1"), ROUNDING)


def test_an_sae_that_keeps_nothing_leaves_the_mlp_to_the_error(model: Any, clean: Prompts) -> None:
    sae = sae_at(OUT)
    bare = replace(sae, W_dec=torch.zeros_like(sae.W_dec), b_dec=torch.zeros_like(sae.b_dec))
    found = split_mlp(model, clean, bare)
    assert not bool(found.of("reconstruction").any())
    agree(found.of("error"), decompose(model, clean).of("MLP1"), ROUNDING)


def test_a_kernel_that_forgets_b_out_does_not_add_up(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    from claimlens.circuits.kernels import sae_effects

    def forgotten(bridge: Any, layer: int) -> Tensor:
        return torch.zeros(micro.WIDTH).double()

    monkeypatch.setattr(sae_effects, "mlp_output_bias", forgotten)
    gap = split_mlp(model, clean, sae_at(POST)).total - decompose(model, clean).of("MLP1")
    assert float(gap.abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["Llama", "GPTNeoX"])
def test_other_architectures_add_up_too(name: str, clean: Prompts) -> None:
    bridge = architectures.bridge(name)
    for hook, width in ((OUT, architectures.WIDTH), (POST, 48)):
        found = split_mlp(bridge, clean, random_sae("topk", hook, width))
        agree(found.total, decompose(bridge, clean).of("MLP1"), 2e-5)


def test_where_it_has_no_meaning(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotApplicable, match=r"needs one on\s+blocks.N.mlp.hook_post"):
        split_mlp(model, clean, random_sae("topk", "blocks.1.hook_resid_pre", micro.WIDTH))
    with pytest.raises(NotApplicable, match="normalised together"):
        split_mlp(architectures.bridge("Gemma2"), clean, sae_at(OUT))


# --- conditions and loss recovered ---------------------------------------------------------------


def test_the_five_conditions(model: Any, clean: Prompts) -> None:
    sae, latents = sae_at(OUT), [1, 2, 3]
    for at in ("END", None):
        found = conditions(model, sae, latents, clean, at)
        expected = {
            "original": model,
            "mean ablation": ablate_site(model, sae, clean, at),
            "zero ablation": ablate_site(model, sae, at=at),
            "latents ablated": ablate_latents(model, sae, latents, at),
            "reconstruction": splice(model, sae, at),
        }
        assert list(found) == list(expected)
        for name, edit in expected.items():
            assert torch.equal(answer_loss(found[name], clean), answer_loss(edit, clean)), name


def test_loss_recovered_is_calibrated(model: Any, clean: Prompts) -> None:
    """An SAE that gives 0 recovers nothing against zero ablation; one that gives the mean, nothing
    against the mean; one that gives the activation, everything."""
    site_mean = site(model, clean, sae_at(OUT))
    tokens = [site_mean[i, 1:n] for i, n in enumerate(clean.lengths.tolist())]
    mean = torch.cat(tokens).mean(0)
    bare = sae_at(OUT, W_dec=torch.zeros(40, micro.WIDTH).double())
    for constant, ablated in ((torch.zeros_like(mean), "zero"), (mean, "mean")):
        found = conditions(model, replace(bare, b_dec=constant), [0], clean)
        agree(
            answer_loss(found["reconstruction"], clean),
            answer_loss(found[f"{ablated} ablation"], clean),
            ROUNDING,
        )
    both = torch.cat([torch.eye(micro.WIDTH), -torch.eye(micro.WIDTH)], 1).double()
    tiny, none = torch.full((micro.WIDTH,), 1e-13).double(), torch.zeros(2 * micro.WIDTH).double()
    perfect = Sae(OUT, "standard", both, both.T, tiny, none, apply_b_dec_to_input=False)
    found = conditions(model, perfect, [0], clean)
    agree(answer_loss(found["reconstruction"], clean), answer_loss(model, clean), 1e-9)


# --- the answer, with and without ----------------------------------------------------------------


def test_log_prob_logit_and_rank(model: Any, twin: Twin, clean: Prompts) -> None:
    sae, latents = sae_at(OUT), (1, 2, 3, 4, 5, 6)
    x = site(model, clean, sae)
    log_prob, logit, rank = [], [], []
    for row, (tokens, answer) in enumerate(zip(rows(clean), answers(clean), strict=True)):
        last = len(tokens) - 1
        found = twin_sae.encode(sae, x[row, last : last + 1])
        step = twin_sae.decode(sae, found, latents) - twin_sae.decode(sae, found)

        def moved(written: Tensor, step: Tensor = step) -> Tensor:
            return torch.cat([written[:-1], written[-1:] + step])

        before, after = twin.run(tokens).logits[-1], twin.run(tokens, None, {1: moved}).logits[-1]
        log_prob.append((before.log_softmax(0) - after.log_softmax(0))[answer])
        logit.append((before - before.mean())[answer] - (after - after.mean())[answer])
        places = [(logits > logits[answer]).sum() for logits in (before, after)]
        rank.append((places[0] - places[1]).double())
    change = answer_change(model, ablate_latents(model, sae, latents, "END"), clean)
    agree(change.log_prob, log_prob)
    agree(change.logit, logit)
    agree(change.rank, rank)
    assert bool(change.rank.any())


def test_nothing_changed_is_no_change(model: Any, clean: Prompts) -> None:
    found = answer_change(model, model, clean)
    assert not bool(torch.stack([found.log_prob, found.logit, found.rank]).any())


def test_prompts_without_answers_are_refused(model: Any, clean: Prompts) -> None:
    unanswered = replace(clean, answer=None)
    with pytest.raises(ValueError, match="no answers"):
        answer_change(model, ablate_site(model, sae_at(OUT)), unanswered)
    with pytest.raises(ValueError, match="no answers"):
        split_mlp(model, unanswered, sae_at(OUT))


def test_bars_carry_intervals(model: Any, clean: Prompts) -> None:
    values = np.linspace(0, 1, 20)
    ids = tuple(map(str, range(20)))
    measured = Measurement(values, ids, ids, "nats", Ledger())
    (bar,) = interval_bars("Loss", "nats", {"original": measured}).bars
    interval = measured.interval()
    assert bar.name == "original"
    assert bar.value == pytest.approx(0.5)
    assert (bar.low, bar.high) == (interval.low, interval.high)
    assert interval.low < 0.5 < interval.high


def test_a_reconstruction_that_changes_nothing_is_not_measured(model: Any, clean: Prompts) -> None:
    both = torch.cat([torch.eye(micro.WIDTH), -torch.eye(micro.WIDTH)], 1).double()
    zero = torch.zeros(micro.WIDTH).double()
    perfect = Sae(OUT, "standard", both, both.T, zero, torch.zeros(2 * micro.WIDTH).double())
    with pytest.raises(NotMeasured, match="SAE reconstruction at END changed nothing"):
        end_logits(conditions(model, perfect, [0], clean)["reconstruction"], clean)
