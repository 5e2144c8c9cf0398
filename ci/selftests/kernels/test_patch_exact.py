"""Patching at its endpoints, where the answer is known to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, partialmethod
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import ROUNDING, agree, sides
from claimlens.circuits.engine.patching import Grid
from claimlens.circuits.engine.policy import Mode, Policy, using
from claimlens.circuits.kernels import patch as kernel
from claimlens.circuits.kernels.cache import Edit, Edited, Model, cache, edited
from claimlens.circuits.kernels.patch import (
    Patching,
    patch,
    patch_residual,
    zero_region,
)
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import PromptPairs, Prompts
from claimlens.circuits.verdict import NotMeasured

MODES: tuple[Mode, ...] = ("hooks", "required")


@pytest.mark.parametrize(
    "hook",
    ["hook_embed", "blocks.1.hook_resid_pre", "blocks.2.hook_resid_post", "ln_final.hook_in"],
)
def test_patching_everything_is_the_clean_run(hook: str, model: Any, swapped: PromptPairs) -> None:
    clean, corrupted = sides(swapped)
    patched = cache(patch(model, hook, clean), corrupted).logits
    assert torch.equal(patched, cache(model, clean).logits)


def test_patching_at_all_that_differs_is_the_clean_run(model: Any, swapped: PromptPairs) -> None:
    """To the bit by hooks; the engine computes the same rows in blocks of another size."""
    clean, corrupted = sides(swapped)
    for mode in MODES:
        with using(Policy(mode=mode)):
            found = patch_residual(model, clean, corrupted, [0, micro.LAYERS], ["S2", "END"])
        for place in (found.at(0, "S2"), found.at(micro.LAYERS, "END")):
            agree(place, found.gap, 0 if mode == "hooks" else ROUNDING)
        assert torch.count_nonzero(found.gap) == len(clean)


def test_patching_the_run_with_itself_changes_nothing(model: Any, swapped: PromptPairs) -> None:
    _, corrupted = sides(swapped)
    again = patch(model, "blocks.1.hook_resid_pre", corrupted, "S2", noop=True)
    assert torch.equal(cache(again, corrupted).logits, cache(model, corrupted).logits)
    with pytest.raises(
        NotMeasured, match=r"patching blocks.1.hook_resid_pre at S2 changed nothing"
    ):
        logit_diff(patch(model, "blocks.1.hook_resid_pre", corrupted, "S2"), corrupted)


LAYERS = tuple(range(micro.LAYERS + 1))


def largest_in_zero_region(model: Model, swapped: PromptPairs) -> tuple[Tensor, Patching]:
    clean, corrupted = sides(swapped)
    found = patch_residual(model, clean, corrupted, LAYERS)
    region = zero_region(found, clean, corrupted)
    assert 0 < int(region.sum()) < region.numel()
    return (found.effect.abs() * region).max(), found


@pytest.mark.parametrize("mode", MODES)
def test_the_zero_region_is_exactly_zero_and_the_rest_is_not(
    mode: Mode, model: Any, swapped: PromptPairs
) -> None:
    with using(Policy(mode=mode)):
        largest, found = largest_in_zero_region(model, swapped)
    assert largest == 0
    outside = ~zero_region(found, *sides(swapped))
    assert bool((found.effect[outside].abs() > 1e-9).all())


def one_further(
    real: Callable[..., Edited],
    model: Model,
    hook: str,
    clean: Prompts,
    value: Tensor,
    columns: list[int],
    noop: bool,
) -> Edited:
    last = clean.tokens.shape[1] - 1
    moved = [min(column + 1, last) for column in columns]
    return real(model, hook, clean, value, moved, noop)


def places_one_further(
    grid: Grid, real: Callable[[Grid, str], tuple[Tensor, Tensor]], name: str
) -> tuple[Tensor, Tensor]:
    clean, corrupted = real(grid, name)
    return clean, torch.minimum(corrupted + 1, grid.corrupted.lengths[:, None] - 1)


def test_a_patch_that_lands_one_position_further_breaks_the_zero_region(
    monkeypatch: pytest.MonkeyPatch, model: Any, swapped: PromptPairs
) -> None:
    monkeypatch.setattr(kernel, "_at_columns", partial(one_further, kernel._at_columns))
    with using(Policy(mode="hooks")):
        largest, _ = largest_in_zero_region(model, swapped)
    assert largest > 1e-3
    monkeypatch.setattr(Grid, "at", partialmethod(places_one_further, Grid.at))
    with using(Policy(mode="required")):
        largest, _ = largest_in_zero_region(model, swapped)
    assert largest > 1e-3


def test_a_model_that_looks_ahead_breaks_the_zero_region(model: Any, swapped: PromptPairs) -> None:
    ahead = Edit("blocks.0.hook_attn_out", lambda x: x + 0.1 * x.flip(1), "looking ahead")
    largest, _ = largest_in_zero_region(edited(model, ahead), swapped)
    assert largest > 1e-3
