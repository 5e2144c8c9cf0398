"""Directions of the residual stream, and the metrics that say how far an effect goes."""

from __future__ import annotations

from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests.kernels.samples import HEADS, ROUNDING, SOME, agree, rows
from claimlens.ci.selftests.twin import Twin
from claimlens.ci.selftests.twin_direct import output, unembeddings
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.directions import (
    answer_direction,
    head_output,
    split,
    token_directions,
)
from claimlens.circuits.metrics import answer_tokens, denoising, logit_diff, noising
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotMeasured


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_what_a_head_writes(head: Head, model: Any, twin: Twin, clean: Prompts) -> None:
    place = head.layer, head.index
    expected = [output(twin, twin.run(tokens), place)[-1] for tokens in rows(clean)]
    agree(head_output(model, clean, head), expected)


def test_what_a_head_writes_agrees_with_transformer_lens(model: Any, clean: Prompts) -> None:
    for row, tokens in enumerate(rows(clean)[:3]):
        _, stored = model.run_with_cache(tokens[None])
        theirs = stored.stack_head_results(pos_slice=-1)[:, 0].detach()
        agree(torch.stack([head_output(model, clean, h)[row] for h in HEADS]), theirs, ROUNDING)


def test_a_zero_ablated_head_writes_nothing(model: Any, clean: Prompts) -> None:
    assert not bool(head_output(zero_ablate(model, SOME), clean, SOME).any())


def test_token_directions(model: Any, twin: Twin, clean: Prompts) -> None:
    answers, wrongs = answer_tokens(clean)
    directions = unembeddings(twin)
    found = token_directions(model, answers)
    agree(found - found.mean(1, keepdim=True), directions[answers])
    gap = answer_direction(model, clean)
    agree(gap - gap.mean(1, keepdim=True), directions[answers] - directions[wrongs])


def test_the_answer_direction_is_that_of_transformer_lens(model: Any, clean: Prompts) -> None:
    answers, wrongs = answer_tokens(clean)
    theirs = model.W_U[:, answers] - model.W_U[:, wrongs]
    agree(answer_direction(model, clean), theirs.T.detach(), ROUNDING)


def test_the_answer_direction_reads_the_logit_difference(model: Any, clean: Prompts) -> None:
    from claimlens.circuits.kernels.cache import cache

    normal = cache(model, clean, ["ln_final.hook_normalized"])["ln_final.hook_normalized"]
    own = normal[torch.arange(len(clean)), clean.at("END")[:, 0]]
    answers, wrongs = answer_tokens(clean)
    read = (own * answer_direction(model, clean)).sum(1) + model.b_U[answers] - model.b_U[wrongs]
    agree(read.detach(), logit_diff(model, clean), 1e-10)


# --- splitting ------------------------------------------------------------------------------------


@pytest.fixture
def parts(model: Any, clean: Prompts) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A head's output, the answer's unembedding, and the parts along it and orthogonal to it."""
    whole, direction = head_output(model, clean, SOME), token_directions(model, answers_of(clean))
    return (whole, direction, *split(whole, direction))


def answers_of(clean: Prompts) -> Tensor:
    return answer_tokens(clean)[0]


def test_the_parts_sum_to_the_whole(parts: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    whole, _, along, rest = parts
    agree(along + rest, whole, ROUNDING)


def test_one_part_lies_along_and_the_other_is_orthogonal(
    parts: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    whole, direction, along, rest = parts
    agree((rest * direction).sum(1), torch.zeros(len(rest)).double(), ROUNDING)
    for vector, unit, part in zip(whole, direction, along, strict=True):
        length = sum(float(a * b) for a, b in zip(vector, unit, strict=True))
        agree(part, unit * length / sum(float(b) ** 2 for b in unit), ROUNDING)


def test_splitting_a_part_again_changes_nothing(
    parts: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    _, direction, along, rest = parts
    zeros = torch.zeros_like(along)
    for given, expected in ((along, (along, zeros)), (rest, (zeros, rest))):
        for found, wanted in zip(split(given, direction), expected, strict=True):
            agree(found, wanted, ROUNDING)


def test_a_direction_without_length_is_an_error() -> None:
    directions = torch.ones(3, 4)
    directions[1] = 0
    with pytest.raises(ValueError, match="length 0: there is nothing to split along"):
        split(torch.ones(3, 4), directions)


def test_directions_of_another_shape_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as where nothing checks
    for other in (torch.ones(3, 3), torch.ones(1, 4)):
        with pytest.raises(ValueError, match="one direction per vector"):
            split(torch.ones(3, 4), other)


def test_a_vector_is_taken_at_one_position(model: Any, repeated: Prompts) -> None:
    with pytest.raises(ValueError, match=r"REPEAT stands for .* a vector is taken at one"):
        head_output(model, repeated, SOME, "REPEAT")


# --- calibration ----------------------------------------------------------------------------------

CLEAN, CORRUPTED = torch.tensor([5.0, 3.0, 4.0]), torch.tensor([1.0, -1.0, 0.0])


def test_the_calibration_points() -> None:
    assert noising(CLEAN, CLEAN, CORRUPTED).tolist() == [0.0] * 3
    assert float(noising(CORRUPTED, CLEAN, CORRUPTED).mean()) == -1.0
    assert denoising(CLEAN, CLEAN, CORRUPTED).tolist() == [1.0] * 3
    assert float(denoising(CORRUPTED, CLEAN, CORRUPTED).mean()) == 0.0


def test_the_mean_is_that_of_means_however_the_prompts_differ(
    model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    """(mean found - mean clean) / (mean clean - mean corrupted): no mean of ratios."""
    own, theirs = logit_diff(model, clean), logit_diff(model, corrupted)
    found = logit_diff(zero_ablate(model, SOME), clean)
    expected = (found.mean() - own.mean()) / (own.mean() - theirs.mean())
    agree(noising(found, own, theirs, 0.01).mean(), expected, 1e-9)
    agree(denoising(found, own, theirs, 0.01).mean(), expected + 1, 1e-9)


@pytest.mark.parametrize("metric", [noising, denoising])
def test_a_gap_below_its_floor_is_not_measured(metric: Any) -> None:
    with pytest.raises(NotMeasured, match=r"0\.05 apart, less than 0\.1"):
        metric(CORRUPTED, CLEAN, CLEAN - 0.05)
    with pytest.raises(NotMeasured, match="apart, less than"):
        metric(CORRUPTED, CLEAN, CLEAN * torch.nan)
    assert metric(CLEAN, CLEAN, CLEAN - 0.05, min_gap=0.01).isfinite().all()
