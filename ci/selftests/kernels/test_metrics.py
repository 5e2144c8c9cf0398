"""Metrics against the twin: one value per prompt, padding left out."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import (
    HEADS,
    TOLERANCES,
    agree,
    diff,
    index_of,
    rows,
    traces,
)
from claimlens.ci.selftests.twin import Twin
from claimlens.circuits.kernels.bridge import all_heads
from claimlens.circuits.metrics import (
    correct,
    correlation,
    end_logits,
    logit_diff,
    loss,
    margin_over_others,
)
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotMeasured

# --- the clean run --------------------------------------------------------------------------------


def test_the_twin_is_the_model(twin: Twin, clean: Prompts) -> None:
    raw = micro.random_model()
    for tokens in rows(clean):
        agree(twin.run(tokens).logits, micro.logits_of(raw, tokens[None])[0])


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_logit_diff(dtype: str, tolerance: float, twin: Twin, clean: Prompts) -> None:
    expected = [diff(trace, clean, i) for i, trace in enumerate(traces(twin, clean))]
    agree(logit_diff(micro.bridge(dtype), clean), expected, tolerance)


def test_correct_is_the_sign_of_the_logit_diff(model: Any, twin: Twin, clean: Prompts) -> None:
    expected = [bool(diff(t, clean, i) > 0) for i, t in enumerate(traces(twin, clean))]
    assert correct(model, clean).tolist() == expected
    assert len(set(expected)) == 2


def test_end_logits_up_to_the_constant_that_processing_removes(
    model: Any, twin: Twin, clean: Prompts
) -> None:
    expected = [trace.logits[-1].log_softmax(0) for trace in traces(twin, clean)]
    agree(end_logits(model, clean).log_softmax(1), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_loss_of_whole_prompts_leaves_padding_out(
    dtype: str, tolerance: float, twin: Twin, clean: Prompts
) -> None:
    expected = [
        torch.nn.functional.cross_entropy(trace.logits[:-1], tokens[1:])
        for trace, tokens in zip(traces(twin, clean), rows(clean), strict=True)
    ]
    agree(loss(micro.bridge(dtype), clean), expected, tolerance)


@pytest.mark.parametrize("label", ["IO", "S2", "END"])
def test_loss_at_a_label_is_that_of_predicting_it_from_the_position_before(
    label: str, model: Any, twin: Twin, clean: Prompts
) -> None:
    expected = []
    for trace, tokens, (place,) in zip(
        traces(twin, clean), rows(clean), index_of(clean, label), strict=True
    ):
        expected.append(-trace.logits[place - 1].log_softmax(0)[tokens[place]])
    agree(loss(model, clean, label), expected)


def test_loss_at_several_positions_is_their_mean(model: Any, twin: Twin, repeated: Prompts) -> None:
    expected = []
    for trace, tokens, places in zip(
        traces(twin, repeated), rows(repeated), index_of(repeated, "REPEAT"), strict=True
    ):
        nats = [-trace.logits[place - 1].log_softmax(0)[tokens[place]] for place in places]
        expected.append(torch.stack(nats).mean())
    agree(loss(model, repeated, "REPEAT"), expected)


def test_nothing_predicts_the_first_token(model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match="includes the first token"):
        loss(model, clean, "BOS")


def test_prompts_without_answers_have_no_logit_diff(model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match="no answers; use a prompt set with answers"):
        logit_diff(model, replace(clean, wrong_answer=None))


# --- superlatives ---------------------------------------------------------------------------------


def test_the_margin_is_that_of_the_weakest_named_head_over_the_strongest_other() -> None:
    means = torch.tensor([[0.0, 5.0], [1.0, 3.0], [2.0, 4.0]])
    scores = means + torch.tensor([-0.1, 0.0, 0.1])[:, None, None]
    assert margin_over_others(scores, [Head(0, 1), Head(2, 1)]).tolist() == pytest.approx([1.0] * 3)
    assert margin_over_others(scores, [Head(0, 1), Head(1, 1)]).tolist() == pytest.approx(
        [-1.0] * 3
    )


def test_the_margin_is_taken_prompt_by_prompt() -> None:
    scores = torch.tensor([[[3.0, 1.0]], [[3.0, 2.0]]])
    assert margin_over_others(scores, [Head(0, 0)]).tolist() == [2.0, 1.0]


def test_a_superlative_needs_a_head_and_others_to_beat() -> None:
    scores = torch.ones(2, 1, 2)
    with pytest.raises(ValueError, match="no heads given"):
        margin_over_others(scores, [])


def test_all_heads_are_listed_by_layer(model: Any) -> None:
    assert all_heads(model) == HEADS


def test_correlation_is_pearsons() -> None:
    rng = random.Random(0)
    x, noise = (torch.tensor([[rng.gauss(0, 1)] * 2 for _ in range(40)]) for _ in range(2))
    x = x + torch.tensor([0.0, 1.0])
    y = 2 * x + noise
    expected = np.corrcoef(x.flatten().numpy(), y.flatten().numpy())[0, 1]
    assert float(correlation(x, y).mean()) == pytest.approx(expected, abs=1e-9)
    assert float(correlation(x, -3 * x + 1).mean()) == pytest.approx(-1, abs=1e-6)
    with pytest.raises(NotMeasured, match="needs spread"):
        correlation(x, torch.ones_like(x))
