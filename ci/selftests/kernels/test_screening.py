"""Attribution patching and edge attribution: gradients against finite differences, in float64.

A guess is the slope of the exact effect, so the exact effect of a change a million times smaller
must be the guess, made as small. The plain twin's own gradients are in test_screening_twin.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures
from claimlens.ci.selftests.kernels.samples import HEADS, agree
from claimlens.circuits.kernels.ablate import resample_ablate, z_of
from claimlens.circuits.kernels.attribution_patching import (
    attribution_patching,
    screen_heads,
    screened,
)
from claimlens.circuits.kernels.bridge import (
    input_norm,
    key_weights,
    output_weights,
    query_weights,
    value_weights,
)
from claimlens.circuits.kernels.cache import Edit, cache, edited
from claimlens.circuits.kernels.edge_attribution import (
    Edge,
    edge_attribution,
    edges,
    screen_edges,
)
from claimlens.circuits.kernels.path_patch import path_effect
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

TINY = 1e-6
SLOPE = 1e-4
"""What rounding and curvature leave of a finite difference, on effects of order 1."""
WEIGHTS = {"q": query_weights, "k": key_weights, "v": value_weights}


def slope(model: Any, prompts: Prompts, hook: str, change: Tensor, step: float = TINY) -> Tensor:
    """The logit difference's slope when an activation moves along `change`."""

    def stepped(size: float) -> Tensor:
        edit = Edit(hook, lambda x: x + size * change, "a step")
        return logit_diff(edited(model, edit), prompts)

    return (stepped(step) - stepped(-step)) / (2 * step)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_the_guess_for_a_head_is_a_slope(
    head: Head, model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    hook = f"blocks.{head.layer}.attn.hook_z"
    change = torch.zeros_like(cache(model, clean, [hook])[hook])
    change[:, :, head.index] = z_of(model, corrupted, head) - z_of(model, clean, head)
    found = attribution_patching(model, clean, corrupted)[:, head.layer, head.index]
    agree(found, slope(model, clean, hook, change), SLOPE)


def written(model: Any, clean: Prompts, corrupted: Prompts, sender: Head) -> Tensor:
    z = z_of(model, corrupted, sender) - z_of(model, clean, sender)
    return z @ output_weights(model, sender)


@pytest.mark.parametrize("sender", [Head(0, 1), Head(1, 0)], ids=str)
@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_the_guess_for_an_edge_between_heads_is_a_slope(
    sender: Head, part: Any, model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    receiver = Head(2, 1)
    stream, hook = "blocks.2.hook_resid_pre", f"blocks.2.attn.hook_{part}"
    run = cache(model, clean, [stream, hook])
    moved = run[stream] + TINY * written(model, clean, corrupted, sender)
    read = [input_norm(model, 2, x, "ln1") for x in (moved, run[stream])]
    change = torch.zeros_like(run[hook])
    change[:, :, receiver.index] = (read[0] - read[1]) / TINY @ WEIGHTS[part](model, receiver)
    guesses = edge_attribution(model, clean, corrupted, steps=1)
    found = guesses[:, edges(model).index(Edge(sender, receiver, part))]
    agree(found, slope(model, clean, hook, change), SLOPE)


def test_the_guess_for_an_edge_to_the_logits_is_a_slope(
    model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    sender, last = Head(1, 1), "blocks.2.hook_resid_post"
    guesses = edge_attribution(model, clean, corrupted, steps=1)
    found = guesses[:, edges(model).index(Edge(sender))]
    agree(found, slope(model, clean, last, written(model, clean, corrupted, sender)), SLOPE)


def test_more_steps_are_the_mean_over_embeddings_on_the_way(
    model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    """Two steps: the slopes at the clean embeddings and half way to the corrupted ones."""
    hook, last, sender = "hook_embed", "blocks.2.hook_resid_post", Head(1, 1)
    theirs = cache(model, corrupted, [hook])[hook]
    half = edited(model, Edit(hook, lambda x: (x + theirs) / 2, "half way"))
    change = written(model, clean, corrupted, sender)
    expected = (slope(model, clean, last, change) + slope(half, clean, last, change)) / 2
    guesses = edge_attribution(model, clean, corrupted, steps=2)
    agree(guesses[:, edges(model).index(Edge(sender))], expected, SLOPE)
    once = edge_attribution(model, clean, corrupted, steps=1)
    assert float((guesses - once).abs().max()) > 1e-3


def test_what_ranks_first_stands_beside_its_exact_effect(
    model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    found = screen_heads(model, clean, corrupted, 3)
    sizes = found.approx.mean(0).abs()
    assert list(found.top) == sizes.argsort(descending=True)[:3].tolist()
    for place, head in enumerate(found.first):
        patched = logit_diff(resample_ablate(model, head, corrupted), clean)
        agree(found.exact[:, place], patched - logit_diff(model, clean), 1e-12)
    assert [name for name, _, _ in found.rows()] == [str(head) for head in found.first]


def test_edges_that_rank_first_stand_beside_their_exact_effect(
    model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    found = screen_edges(model, clean, corrupted, 2, steps=1)
    for place, edge in enumerate(found.first):
        into = edge.into or "q"
        exact = path_effect(
            model, clean, corrupted, edge.sender, edge.receiver, into, mlps="frozen"
        )
        agree(found.exact[:, place], exact, 1e-12)


def test_the_same_prompts_have_no_effect_to_guess(model: Any, clean: Prompts) -> None:
    assert float(attribution_patching(model, clean, clean).abs().max()) == 0
    assert float(edge_attribution(model, clean, clean, steps=1).abs().max()) == 0


def test_every_edge_leads_forward() -> None:
    found = edges(architectures.bridge("Llama"))
    assert all(edge.receiver is None or edge.sender.layer < edge.receiver.layer for edge in found)
    assert len(found) == 4 * (4 + 2 + 2) + 8  # four senders to the next layer's readers; to logits


def test_no_gradient_is_left_behind(model: Any, clean: Prompts, corrupted: Prompts) -> None:
    attribution_patching(model, clean, corrupted)
    assert all(weight.grad is None for weight in model.parameters())
    assert not logit_diff(model, clean).requires_grad


@pytest.mark.parametrize("k", [0, 7])
def test_more_than_there_is_cannot_rank_first(
    k: int, model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    with pytest.raises(ValueError, match=rf"k={k}: expected at least 1 and at most the 6 items"):
        screen_heads(model, clean, corrupted, k)


def test_a_guess_that_is_no_number_is_not_measured() -> None:
    with pytest.raises(NotMeasured, match="not finite"):
        screened(["a"], torch.full((2, 1), torch.nan), 1, lambda item: torch.zeros(2))


def test_bad_input_is_said(model: Any, clean: Prompts, corrupted: Prompts) -> None:
    fewer = corrupted.select(torch.arange(len(corrupted)).flip(0))
    assert not torch.equal(fewer.lengths, clean.lengths)
    with pytest.raises(ValueError, match="differ in length"):
        attribution_patching(model, clean, fewer)
    with pytest.raises(ValueError, match="at least one point"):
        edge_attribution(model, clean, corrupted, steps=0)


def test_where_outputs_are_normalised_edges_are_not_applicable(
    clean: Prompts, corrupted: Prompts
) -> None:
    with pytest.raises(NotApplicable, match="the model normalises it first"):
        edge_attribution(architectures.bridge("Gemma2"), clean, corrupted, steps=1)


@pytest.mark.parametrize("name", ["Llama", "GPTNeoX"])
def test_other_architectures(name: str, clean: Prompts, corrupted: Prompts) -> None:
    model, sender, last = architectures.bridge(name), Head(1, 1), "blocks.1.hook_resid_post"
    guesses = edge_attribution(model, clean, corrupted, steps=1)
    found = guesses[:, edges(model).index(Edge(sender))]
    change = written(model, clean, corrupted, sender)
    # RMSNorm rounds to float32, so the step must be larger than its rounding
    expected = slope(model, clean, last, change, step=1e-2)
    agree(found, expected, 1e-2 * float(found.abs().max()))
