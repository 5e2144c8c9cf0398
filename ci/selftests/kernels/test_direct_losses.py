"""The engine's losses of a head's parts against their plain form, which goes through all logits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures, micro
from claimlens.ci.selftests.kernels.samples import ROUNDING, SOME, agree
from claimlens.circuits.engine import direct_losses, direct_tiles
from claimlens.circuits.engine.policy import Policy, using
from claimlens.circuits.kernels import direct
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.bridge import unembedding
from claimlens.circuits.kernels.cache import Edit, Model, edited
from claimlens.circuits.kernels.direct import DirectRun
from claimlens.circuits.kernels.projection_loss import (
    KEEPS,
    Keep,
    loss_change,
    loss_changes,
    loss_changes_of_each,
)
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

DIRECT = ("GPT2", "Llama", "GPTNeoX")
"""Architectures whose heads add to the logits directly."""


def by_engine(model: Model, prompts: Prompts, negative: bool = False) -> dict[Keep, Tensor]:
    with using(Policy("required")):
        return loss_changes_of_each(model, prompts, negative_only=negative)


def by_hooks(model: Model, prompts: Prompts, negative: bool = False) -> dict[Keep, Tensor]:
    with using(Policy("hooks")):
        return {keep: loss_changes(model, prompts, keep, negative_only=negative) for keep in KEEPS}


def same(found: dict[Keep, Tensor], expected: dict[Keep, Tensor], tolerance: float) -> None:
    assert list(found) == list(KEEPS)
    for keep in KEEPS:
        agree(found[keep], expected[keep].double(), tolerance)
        assert float(expected[keep].abs().max()) > 1e-3


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("name", DIRECT)
def test_the_engine_agrees_with_the_plain_form(
    name: str, shuffled: bool, negative: bool, pairs: PromptPairs
) -> None:
    model = architectures.bridge(name)
    prompts = (pairs.shuffled(3) if shuffled else pairs).clean
    assert (prompts.moved is not None) == shuffled
    found = by_engine(model, prompts, negative)
    same(found, by_hooks(model, prompts, negative), 1e-9)
    padding = torch.arange(prompts.tokens.shape[1]) >= prompts.lengths[:, None]
    assert bool(padding.any())
    for change in found.values():
        assert not change[:, :, :, 0].any()
        assert not change.movedim(3, 1)[padding].any()


@pytest.mark.parametrize("name", DIRECT)
def test_in_float32(name: str, clean: Prompts) -> None:
    coarse = micro.boot_micro(copy.deepcopy(architectures.raw(name)), "float32")
    found = by_engine(coarse, clean)
    assert found["nothing"].dtype == torch.float32
    same(found, by_hooks(architectures.bridge(name), clean), 1e-4)


@pytest.mark.parametrize("keep", KEEPS)
def test_one_part_or_one_head_is_its_entry_of_all(keep: Keep, model: Any, clean: Prompts) -> None:
    with using(Policy("required")) as policy:
        every = loss_changes_of_each(model, clean)[keep]
        agree(loss_changes(model, clean, keep), every, ROUNDING)
        one = loss_change(model, clean, SOME, keep, at="S2")
        whole = loss_change(model, clean, SOME, keep)
    agree(whole, every[:, SOME.layer, SOME.index].sum(1) / (clean.lengths - 1), ROUNDING)
    agree(one, every[:, SOME.layer, SOME.index].gather(1, clean.at("S2"))[:, 0], ROUNDING)
    assert policy.ways == dict.fromkeys(
        ["loss_changes_of_each", "loss_changes", "loss_change"], "engine"
    )


# --- tiles and memory -----------------------------------------------------------------------------


@pytest.mark.parametrize(("columns", "block"), [(33, 1), (64, 2**12), (10**6, 2**30)])
def test_tiles_of_any_size_give_the_same(
    columns: int, block: int, model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = by_engine(model, clean)
    monkeypatch.setattr(direct_tiles, "COLUMNS", columns)
    monkeypatch.setattr(direct_tiles, "BLOCK", block)
    same(by_engine(model, clean), whole, ROUNDING)


def test_less_memory_is_smaller_tiles_and_too_little_an_error(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[int, int]] = []
    sizes = direct_tiles.sizes

    def seen(*args: Any) -> tuple[int, int]:
        tried.append(sizes(*args))
        return tried[-1]

    monkeypatch.setattr(direct_losses, "sizes", seen)
    whole = by_engine(model, clean)
    with using(Policy("required", max_bytes=400_000)):
        same(loss_changes_of_each(model, clean), whole, ROUNDING)
    assert tried[1] < tried[0]
    with (
        using(Policy(max_bytes=1000)),
        pytest.raises(NotMeasured, match=r"^one prompt with .* takes .*, the bound is 1,000;"),
    ):
        loss_changes_of_each(model, clean)


def test_progress_goes_up_to_the_whole(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr(direct_tiles, "COLUMNS", 100)
    with using(Policy(progress=lambda *now: told.append(now))):
        loss_changes(model, clean, "projection")
    cells = model.cfg.n_layers * model.cfg.n_heads * len(clean)
    assert told[-1] == ("loss_changes", cells, cells)
    assert len(told) > 2
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


# --- where sums of powers would lose something ----------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_changes_of_hundreds_of_nats(dtype: str, clean: Prompts) -> None:
    loud = Edit("ln_final.hook_scale", lambda scale: scale / 300, "a small final scale")
    model = edited(micro.bridge(dtype), loud)
    found, expected = by_engine(model, clean), by_hooks(model, clean)
    for keep in KEEPS:
        assert float(expected[keep].abs().max()) > 100
        torch.testing.assert_close(found[keep], expected[keep], rtol=1e-5, atol=1e-3)
        if dtype == "float64":
            same(found, expected, 1e-9)


def test_a_source_without_an_unembedding_has_no_projection(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = unembedding

    def without(run: DirectRun) -> Tensor:
        directions = right(run.bridge).T[direct.attended_tokens(run.prompts)]
        directions[:, 2:4] = 0.0
        return directions

    monkeypatch.setattr(DirectRun, "own", property(without))
    same(by_engine(model, clean), by_hooks(model, clean), 1e-9)


# --- where the engine can't -----------------------------------------------------------------------


def test_capped_logits_go_by_hooks(pairs: PromptPairs, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a model in which nothing else is in the way, as normalised outputs are in Gemma 2."""
    model = architectures.bridge("Llama")
    monkeypatch.setattr(model.cfg, "output_logits_soft_cap", 30.0, raising=False)
    with using(Policy("required")), pytest.raises(NotMeasured, match="the logits are soft-capped"):
        loss_changes(model, pairs.clean, "nothing")
    with using(Policy()) as policy:
        found = loss_changes_of_each(model, pairs.clean)
    assert policy.ways["loss_changes_of_each"].startswith("hooks: the logits are soft-capped")
    same(found, by_hooks(model, pairs.clean), 0.0)


@pytest.mark.parametrize("mode", ["auto", "hooks", "required"])
def test_gemma_2_is_not_applicable_either_way(mode: Any, clean: Prompts) -> None:
    with using(Policy(mode)), pytest.raises(NotApplicable, match="normalised together"):
        loss_changes_of_each(architectures.bridge("Gemma2"), clean)


def test_a_z_that_is_no_sum_over_sources_goes_by_hooks(model: Any, clean: Prompts) -> None:
    silent = zero_ablate(model, SOME)
    with using(Policy()) as policy:
        found = loss_changes_of_each(silent, clean)
        loss_changes(silent, clean, "projection")
    assert policy.ways == {
        "loss_changes_of_each": f"hooks: z of {SOME} is not its attention times its values",
        "loss_changes": "engine",
    }
    same(found, by_hooks(silent, clean), 0.0)


# --- the comparison can fail ----------------------------------------------------------------------


def half(found: Tensor) -> Tensor:
    return found / 2


def part(keep: Keep, change: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    right = direct_losses.by_part
    return lambda ablated, along: {**right(ablated, along), keep: change(ablated, along)}


def after(name: str, change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    right = getattr(direct_losses, name)
    return lambda *args: change(right(*args))


BROKEN: dict[str, tuple[str, Callable[[], Callable[..., Any]]]] = {
    "a sign": ("by_part", lambda: part("perpendicular", lambda ablated, along: along)),
    "a term": ("by_part", lambda: part("projection", lambda ablated, along: ablated)),
    "the attention": ("_attended", lambda: after("_attended", half)),
    "the projection": ("moved_along", lambda: after("moved_along", torch.neg)),
    "the token that comes": ("written_along", lambda: after("written_along", half)),
    "the scale": ("_per_scale", lambda: after("_per_scale", half)),
    "the bias": ("unembedding_bias", lambda: after("unembedding_bias", half)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_engine_is_noticed(
    what: str, model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = by_hooks(model, clean)
    name, wrong = BROKEN[what]
    monkeypatch.setattr(direct_losses, name, wrong())
    with pytest.raises(AssertionError):
        same(by_engine(model, clean), expected, 1e-9)


def test_heads_are_not_mixed_up(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = by_hooks(model, clean)
    right = direct.DirectRun.z
    monkeypatch.setattr(DirectRun, "z", lambda run, head: right(run, Head(head.layer, 0)))
    found = loss_changes(model, clean, "nothing")
    agree(found[:, :, 0], expected["nothing"][:, :, 0], 1e-9)
    with pytest.raises(AssertionError):
        agree(found[:, :, 1], expected["nothing"][:, :, 1], 1e-9)
