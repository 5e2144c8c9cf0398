"""Ablations against the twin, and at the endpoints where the answer is known exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import (
    HEADS,
    ROUNDING,
    SOME,
    agree,
    at,
    diff,
    index_of,
    rows,
    traces,
)
from claimlens.ci.selftests.twin import Change, Place, Twin
from claimlens.circuits.kernels.ablate import mean_ablate, resample_ablate, zero_ablate
from claimlens.circuits.kernels.attention import attention
from claimlens.circuits.kernels.bridge import writes
from claimlens.circuits.kernels.cache import Edit, cache, edited
from claimlens.circuits.metrics import (
    logit_diff,
)
from claimlens.circuits.parts import Head, PromptPairs, Prompts

# --- ablations against the twin -------------------------------------------------------------------


def replaced_by(new: Tensor) -> Change:
    return lambda z: new.expand_as(z)


def z_changed(twin: Twin, clean: Prompts, changes: Callable[[int], Mapping[Place, Change]]) -> Any:
    """The logit difference of each prompt under changes of z that may differ by prompt."""
    return [
        diff(twin.run(tokens, changes(row)), clean, row) for row, tokens in enumerate(rows(clean))
    ]


@pytest.mark.parametrize("heads", [HEADS[:1], [SOME], HEADS], ids=["L0H0", "L1H1", "all"])
def test_zero_ablation(heads: list[Head], model: Any, twin: Twin, clean: Prompts) -> None:
    """z = 0 after processing stands for the value bias, which processing moves behind W_O."""
    changes = {at(head): replaced_by(twin.b_v(at(head))) for head in heads}
    expected = z_changed(twin, clean, lambda row: changes)
    agree(logit_diff(zero_ablate(model, heads), clean), expected)


def test_zero_ablation_equals_a_model_whose_w_o_is_zero(model: Any, clean: Prompts) -> None:
    raw, twin = micro.random_model(), Twin(micro.random_model())
    projection = raw.transformer.h[SOME.layer].attn.c_proj
    with torch.no_grad():
        own = slice(SOME.index * twin.d_head, (SOME.index + 1) * twin.d_head)
        projection.weight[own] = 0
        projection.bias += twin.b_v(at(SOME)) @ twin.w_o(at(SOME))
    mute = micro.boot_micro(raw)
    agree(logit_diff(zero_ablate(model, SOME), clean), logit_diff(mute, clean))
    assert not writes(mute, SOME)
    assert writes(model, SOME)


@pytest.mark.parametrize("heads", [[SOME], HEADS], ids=["L1H1", "all"])
def test_resample_ablation(
    heads: list[Head], model: Any, twin: Twin, clean: Prompts, corrupted: Prompts
) -> None:
    others = traces(twin, corrupted)

    def changes(row: int) -> dict[Place, Change]:
        return {at(head): replaced_by(others[row].z[at(head)]) for head in heads}

    expected = z_changed(twin, clean, changes)
    agree(logit_diff(resample_ablate(model, heads, corrupted), clean), expected)


def test_mean_ablation_takes_the_mean_per_template_and_position(
    model: Any, twin: Twin, clean: Prompts, corrupted: Prompts
) -> None:
    templates = tuple(f"length {n}" for n in clean.lengths.tolist())
    ours, over = replace(clean, templates=templates), replace(corrupted, templates=templates)
    others = [trace.z[at(SOME)] for trace in traces(twin, over)]

    def changes(row: int) -> dict[Place, Change]:
        mine = [z for z, name in zip(others, templates, strict=True) if name == templates[row]]
        return {at(SOME): lambda z: torch.stack(mine).mean(0)}

    expected = z_changed(twin, ours, changes)
    agree(logit_diff(mean_ablate(model, SOME, over), ours), expected)


def test_mean_ablation_refuses_templates_of_several_lengths(model: Any, clean: Prompts) -> None:
    mixed = replace(clean, templates=("t",) * len(clean))
    with pytest.raises(ValueError, match="'t' differ in length: no mean per place"):
        mean_ablate(model, SOME, mixed)


# --- endpoints ------------------------------------------------------------------------------------


def test_ablating_nothing_equals_the_clean_run_exactly(model: Any, clean: Prompts) -> None:
    plain = cache(model, clean).logits
    for untouched in (
        zero_ablate(model, []),
        resample_ablate(model, [], clean),
        mean_ablate(model, [], clean),
        edited(model, Edit("blocks.1.attn.hook_z", torch.clone, "nothing", noop=True)),
    ):
        assert torch.equal(cache(untouched, clean).logits, plain)


@pytest.mark.parametrize("hook", ["hook_embed", "blocks.1.hook_resid_pre", "ln_final.hook_in"])
def test_patching_everything_equals_the_other_run(
    hook: str, model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    other = cache(model, corrupted, [hook])
    patched = cache(edited(model, Edit(hook, lambda x: other[hook], "all of it")), clean)
    agree(patched.logits, other.logits, ROUNDING)


def test_resampling_a_head_puts_exactly_the_other_runs_z_there(
    model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    name = f"blocks.{SOME.layer}.attn.hook_z"
    theirs, own = cache(model, corrupted, [name])[name], cache(model, clean, [name])[name]
    patched = cache(resample_ablate(model, SOME, corrupted), clean, [name])[name]
    other = 1 - SOME.index
    assert torch.equal(patched[:, :, SOME.index], theirs[:, :, SOME.index])
    assert torch.equal(patched[:, :, other], own[:, :, other])


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_every_ablation_changes_the_output(head: Head, model: Any, pairs: PromptPairs) -> None:
    clean, corrupted = pairs.clean, pairs.corrupted
    assert corrupted is not None
    plain = logit_diff(model, clean)
    for ablated in (zero_ablate(model, head), resample_ablate(model, head, corrupted)):
        assert bool(((logit_diff(ablated, clean) - plain).abs() > 1e-4).all())


def test_ablations_of_single_heads_add_up_in_any_order(model: Any, clean: Prompts) -> None:
    a, b = Head(0, 0), Head(1, 1)
    together = logit_diff(zero_ablate(model, [a, b]), clean)
    assert torch.equal(together, logit_diff(zero_ablate(zero_ablate(model, a), b), clean))
    assert torch.equal(together, logit_diff(zero_ablate(zero_ablate(model, b), a), clean))


def test_a_kernel_takes_an_edited_model_in_the_models_place(
    model: Any, twin: Twin, clean: Prompts
) -> None:
    first, later = Head(0, 1), Head(2, 0)
    found = attention(zero_ablate(model, first), clean, later, "END", "IO")
    expected = [
        twin.run(t, {at(first): lambda z: twin.b_v(at(first)).expand_as(z)}).pattern[at(later)][
            -1, src
        ]
        for t, (src,) in zip(rows(clean), index_of(clean, "IO"), strict=True)
    ]
    agree(found, expected)
