"""Patching against the twin, against transformer_lens.patching, and where the answer is exact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import (
    ROUNDING,
    agree,
    diff,
    index_of,
    rows,
    sides,
    traces,
)
from claimlens.ci.selftests.twin import Change, Twin
from claimlens.circuits.kernels.cache import cache
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.kernels.patch import (
    Patching,
    first_difference,
    patch,
    patch_columns,
    patch_residual,
    resid_pre,
)
from claimlens.circuits.metrics import answer_tokens, logit_diff
from claimlens.circuits.parts import PromptPairs, Prompts
from claimlens.circuits.verdict import NotMeasured

LABELS = ["IO", "S2", "END"]


def put_in(place: int, new: Tensor) -> Change:
    """The old value, with the new one at one position."""
    return lambda old: torch.cat([old[:place], new[place : place + 1], old[place + 1 :]])


# --- against the twin -----------------------------------------------------------------------------


@pytest.mark.parametrize("label", LABELS)
def test_an_mlps_output_patched_at_a_label(
    label: str, model: Any, twin: Twin, swapped: PromptPairs
) -> None:
    clean, corrupted = sides(swapped)
    expected = []
    for row, (tokens, source) in enumerate(zip(rows(corrupted), traces(twin, clean), strict=True)):
        (place,) = index_of(corrupted, label)[row]
        trace = twin.run(tokens, mlp_changes={1: put_in(place, source.mlp_out[1])})
        expected.append(diff(trace, corrupted, row))
    found = patch(model, "blocks.1.hook_mlp_out", clean, label, noop=True)
    agree(logit_diff(found, corrupted), expected)


def test_a_residual_stream_patched_at_a_label(model: Any, swapped: PromptPairs) -> None:
    """In the raw model, by a hook of torch: the input of a block, at one position."""
    clean, corrupted = sides(swapped)
    raw, expected = micro.random_model(), []
    for row, (tokens, source) in enumerate(zip(rows(corrupted), rows(clean), strict=True)):
        (place,) = index_of(corrupted, "S2")[row]
        taken: list[Tensor] = []
        block = raw.transformer.h[1]
        handle = block.register_forward_pre_hook(lambda m, args, t=taken: t.append(args[0]))
        micro.logits_of(raw, source[None])
        handle.remove()
        handle = block.register_forward_pre_hook(
            lambda m, args, p=place, t=taken: (
                torch.cat([args[0][:, :p], t[0][:, p : p + 1], args[0][:, p + 1 :]], dim=1),
                *args[1:],
            )
        )
        last = micro.logits_of(raw, tokens[None])[0, -1]
        handle.remove()
        answer, wrong = answer_tokens(corrupted)
        expected.append(last[answer[row]] - last[wrong[row]])
    swept = patch_residual(model, clean, corrupted, [1], ["S2"])
    agree(swept.at(1, "S2") + logit_diff(model, corrupted), expected)


# --- against TransformerLens ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "hook"),
    [
        ("get_act_patch_resid_pre", "blocks.{}.hook_resid_pre"),
        ("get_act_patch_attn_out", "blocks.{}.hook_attn_out"),
        ("get_act_patch_mlp_out", "blocks.{}.hook_mlp_out"),
    ],
)
def test_sweeps_over_layers_and_positions_agree_with_transformer_lens(
    function: str, hook: str, model: Any, swapped: PromptPairs
) -> None:
    from transformer_lens import patching

    same_length = [i for i, n in enumerate(swapped.clean.lengths) if n == swapped.clean.lengths[0]]
    clean, corrupted = sides(swapped.select(same_length))
    width = int(clean.lengths[0])
    clean = replace(clean, tokens=clean.tokens[:, :width])
    corrupted = replace(corrupted, tokens=corrupted.tokens[:, :width])
    answer, wrong = answer_tokens(clean)
    each = torch.arange(len(clean))

    def metric(logits: Tensor) -> Tensor:
        return logits[each, -1, answer] - logits[each, -1, wrong]

    _, clean_cache = model.run_with_cache(clean.tokens)
    theirs = getattr(patching, function)(
        model, corrupted.tokens, clean_cache, metric, reduce="none"
    ).values
    for layer in range(micro.LAYERS):
        for column in range(width):
            ours = patch_columns(model, hook.format(layer), clean, [column], noop=True)
            agree(logit_diff(ours, corrupted), theirs[layer, column].double())


# --- shares ---------------------------------------------------------------------------------------


def test_a_share_is_of_the_mean_gap(model: Any, swapped: PromptPairs) -> None:
    found = patch_residual(model, *sides(swapped), [1], ["S2", "END"])
    agree(found.recovered(floor=0.0) * found.gap.mean(), found.effect, ROUNDING)


def test_a_gap_below_the_floor_is_not_measured() -> None:
    level = Patching(torch.ones(2, 1, 1), torch.tensor([5.0, -5.1]), (0,), ("END",), 3)
    with pytest.raises(NotMeasured, match=r"differ by -0.05 logits on average.*the effect itself"):
        level.recovered()
    not_a_number = replace(level, gap=torch.tensor([torch.nan, 1.0]))
    with pytest.raises(NotMeasured, match="on average"):
        not_a_number.recovered()


# --- labels, remembering, and what is refused -----------------------------------------------------


def test_labels_may_stand_at_different_places_of_the_two_sides(
    model: Any, swapped: PromptPairs
) -> None:
    clean, corrupted = sides(swapped)
    hook = "blocks.1.hook_resid_pre"
    moved = replace(clean, positions={**clean.positions, "S2": clean.positions["IO"]})
    kept = cache(patch(model, hook, moved, "S2"), corrupted, [hook])[hook]
    each = torch.arange(len(clean))
    source = cache(model, clean, [hook])[hook]
    here, there = corrupted.at("S2")[:, 0], clean.at("IO")[:, 0]
    assert torch.equal(kept[each, here], source[each, there])


def test_remembering_a_sweep_gives_identical_numbers(model: Any, swapped: PromptPairs) -> None:
    def numbers(pairs: PromptPairs) -> list[Tensor]:
        clean, corrupted = sides(pairs)
        return [
            patch_residual(model, clean, corrupted, [1, 2], ["S1", "S2"]).effect,
            patch_residual(model, clean, corrupted, [1]).effect,
            logit_diff(patch(model, "blocks.1.hook_mlp_out", clean), corrupted),
        ]

    several = [swapped, swapped.shuffled(0), swapped]
    plain = [numbers(pairs) for pairs in several]
    with remembering(Memory()):
        again = [numbers(pairs) for pairs in several]
    for a, b in zip(plain, again, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(plain[0][0], plain[1][0])


def test_resid_mid_is_refused(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotMeasured, match="hook_resid_mid is never patched: the MLP reads another"):
        patch(model, "blocks.1.hook_resid_mid", clean)
    with pytest.raises(NotMeasured, match="never patched"):
        patch_columns(model, "blocks.1.hook_resid_mid", clean, [1])


def test_a_pattern_has_no_position_to_patch(model: Any, swapped: PromptPairs) -> None:
    clean, corrupted = sides(swapped)
    with pytest.raises(NotMeasured, match="has heads where others have positions; patch it whole"):
        patch(model, "blocks.1.attn.hook_pattern", clean, "S2")
    logit_diff(patch(model, "blocks.1.attn.hook_pattern", clean), corrupted)


def test_sides_that_do_not_correspond_are_refused(model: Any, swapped: PromptPairs) -> None:
    clean, corrupted = sides(swapped)
    other = replace(corrupted, lengths=corrupted.lengths - 1)
    with pytest.raises(NotMeasured, match="differ in length: their positions do not correspond"):
        patch_residual(model, clean, other)
    with pytest.raises(NotMeasured, match="are the same: there is nothing to patch"):
        patch_residual(model, clean, clean)
    half = replace(corrupted, tokens=torch.cat([clean.tokens[:3], corrupted.tokens[3:]]))
    with pytest.raises(NotMeasured, match="no first difference"):
        first_difference(clean, half)


@pytest.mark.parametrize("at", [None, "S2"])
def test_one_prompt_does_not_spread_over_the_batch(
    at: str | None, model: Any, swapped: PromptPairs
) -> None:
    clean, corrupted = sides(swapped)
    one = clean.select(torch.tensor([2]))
    with pytest.raises(NotMeasured, match="take both from the same pairs"):
        logit_diff(patch(model, "blocks.1.hook_resid_pre", one, at), corrupted)
    with pytest.raises(NotMeasured, match="take both from the same pairs"):
        logit_diff(patch_columns(model, "blocks.1.hook_resid_pre", one, [2]), corrupted)


def test_the_first_difference_is_s2(swapped: PromptPairs) -> None:
    clean, corrupted = sides(swapped)
    assert torch.equal(first_difference(clean, corrupted), clean.at("S2")[:, 0])
    assert torch.equal(corrupted.tokens.gather(1, corrupted.at("S2")), answers(clean)[:, None])


def answers(prompts: Prompts) -> Tensor:
    return answer_tokens(prompts)[0]


def test_layers_and_places_that_are_not_there_are_refused(model: Any, swapped: PromptPairs) -> None:
    assert resid_pre(0, 3) == "blocks.0.hook_resid_pre"
    assert resid_pre(3, 3) == "blocks.2.hook_resid_post"
    with pytest.raises(ValueError, match="no residual stream before layer 4: the model has 3"):
        patch_residual(model, *sides(swapped), [4], ["END"])
    with pytest.raises(ValueError, match="no patch at layer 0, 'IO'; made were"):
        patch_residual(model, *sides(swapped), [1], ["END"]).at(0, "IO")
