"""Induction over training: what a guess costs, by hand; the loss, as transformer_lens has it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformer_lens import evals

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import ROUNDING, agree, index_of, rows, traces
from claimlens.ci.selftests.twin import Twin
from claimlens.circuits.kernels.training import over_seen_guess, seen_guess, steepest_fall
from claimlens.circuits.metrics import loss_by_position
from claimlens.circuits.parts import PromptPairs, Prompts
from claimlens.circuits.verdict import NotMeasured
from claimlens.fixtures.default.words import VOCABULARY
from claimlens.fixtures.prompts.repeated import repeated_prompts
from claimlens.fixtures.tokens import Vocabulary


def repeated(bos: bool) -> PromptPairs:
    words = Vocabulary(micro.tokenizer())
    return repeated_prompts(words, 3, 0, torch.device("cpu"), micro.CONTEXT, bos=bos)


@pytest.mark.parametrize("bos", [True, False], ids=["bos", "no-bos"])
def test_a_guess_is_among_the_distinct_tokens_seen(bos: bool) -> None:
    pairs = repeated(bos)
    agree(seen_guess(pairs), torch.full((3,), math.log(20.0), dtype=torch.float64))
    tokens = pairs.clean.tokens.clone()
    first = int(bos)
    for half in (first, first + 20):  # of 20 tokens, two are now the same one
        tokens[0, half + 1] = tokens[0, half]
    fewer = replace(pairs, clean=replace(pairs.clean, tokens=tokens))
    agree(seen_guess(fewer)[:1], torch.tensor([math.log(19.0)], dtype=torch.float64))


@pytest.mark.parametrize("bos", [True, False], ids=["bos", "no-bos"])
def test_the_loss_over_a_guess(bos: bool, model: Any, twin: Twin) -> None:
    pairs = repeated(bos)
    ends, expected = index_of(pairs.clean, "REPEAT"), []
    for row, (tokens, trace) in enumerate(
        zip(rows(pairs.clean), traces(twin, pairs.clean), strict=True)
    ):
        log_probs = trace.logits.log_softmax(-1)
        nats = [-log_probs[end - 1, tokens[end]] for end in ends[row]]
        expected.append(torch.stack(nats).mean() - math.log(20.0))
    agree(over_seen_guess(model, pairs), expected)


def test_the_induction_loss_is_that_of_transformer_lens(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the third repeated token and later ones: theirs leaves out the second as well."""
    half, rng = 12, torch.Generator().manual_seed(0)
    drawn = torch.randint(1, len(VOCABULARY), (3, half), generator=rng)
    monkeypatch.setattr(torch, "randint", lambda low, high, size: drawn)
    peer: Any = evals.induction_loss  # which has no types
    theirs = peer(model, None, 3, half, False, "cpu")
    tokens = torch.cat([drawn, drawn], 1)
    ours = Prompts(tokens, torch.tensor([2 * half] * 3), {}, ("random",) * 3)
    nats = loss_by_position(model, ours)[:, half + 1 :]
    assert abs(float(nats.mean() - theirs)) < ROUNDING


def test_the_steepest_fall_is_between_two_neighbours() -> None:
    losses = [torch.tensor([6.0, 6.2]), torch.tensor([6.4, 6.3]), torch.tensor([2.0, 3.0])]
    assert steepest_fall(losses) == 1
    assert steepest_fall([*losses, torch.tensor([0.0, 0.0])]) == 1
    assert steepest_fall(losses[::-1]) == 1  # it rises first, and then falls hardly
    with pytest.raises(NotMeasured, match="1 checkpoints: a change over training needs two"):
        steepest_fall(losses[:1])
