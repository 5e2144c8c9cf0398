"""What a logit difference hangs on, token by token."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import agree
from claimlens.circuits.kernels.cache import Edit, cache, edited
from claimlens.circuits.kernels.input_attribution import EMBEDDING, input_attribution
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotMeasured

STEP = 1e-4


def scaled(value: Tensor, place: int, by: float) -> Tensor:
    new = value.clone()
    new[:, place] *= by
    return new


def test_it_is_the_slope_of_scaling_one_tokens_embedding(model: Any, clean: Prompts) -> None:
    found = input_attribution(model, clean)
    for place in range(int(clean.lengths.min())):
        up, down = (
            logit_diff(
                edited(model, Edit(EMBEDDING, partial(scaled, place=place, by=by), "a step")), clean
            )
            for by in (1 + STEP, 1 - STEP)
        )
        agree(found[:, place], (up - down) / (2 * STEP), 1e-6)


def test_padding_has_none(model: Any, clean: Prompts) -> None:
    outside = torch.arange(clean.tokens.shape[1]) >= clean.lengths[:, None]
    assert bool(outside.any())
    assert not bool(input_attribution(model, clean)[outside].any())


def test_other_tokens_in_the_padding_change_nothing(model: Any, clean: Prompts) -> None:
    outside = torch.arange(clean.tokens.shape[1]) >= clean.lengths[:, None]
    other = replace(clean, tokens=clean.tokens.masked_fill(outside, 5))
    agree(input_attribution(model, other), input_attribution(model, clean), 1e-12)


def test_turned_answers_turn_the_sign(model: Any, clean: Prompts) -> None:
    turned = replace(clean, answer=clean.wrong_answer, wrong_answer=clean.answer)
    agree(input_attribution(model, turned), -input_attribution(model, clean), 1e-12)


def test_it_leaves_nothing_behind(model: Any, clean: Prompts) -> None:
    before = cache(model, clean).final
    input_attribution(model, clean)
    assert all(weight.grad is None for weight in model.parameters())
    agree(cache(model, clean).final, before, 0.0)


def test_frozen_weights_are_said_so(clean: Prompts) -> None:
    frozen = micro.boot_micro(micro.random_model(), "float64")
    frozen.requires_grad_(False)
    with pytest.raises(NotMeasured, match="no gradient reaches hook_embed"):
        input_attribution(frozen, clean)


def test_prompts_without_answers_are_refused(model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match="answer"):
        input_attribution(model, replace(clean, answer=None, wrong_answer=None))
