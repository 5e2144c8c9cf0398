"""The one forward pass: what it refuses, what padding and remembering must not change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import (
    ROUNDING,
    SOME,
    agree,
)
from claimlens.circuits.kernels import cache as runs
from claimlens.circuits.kernels.ablate import resample_ablate, zero_ablate
from claimlens.circuits.kernels.attention import attention
from claimlens.circuits.kernels.attribution import attribute, moved
from claimlens.circuits.kernels.bridge import Bridge
from claimlens.circuits.kernels.cache import Edit, Model, cache, edited
from claimlens.circuits.kernels.copy_suppression import copy_effect
from claimlens.circuits.kernels.memory import Memory, recalled, remembering
from claimlens.circuits.kernels.read_out import FINAL
from claimlens.circuits.metrics import (
    logit_diff,
    loss,
)
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.circuits.verdict import NotMeasured

# --- what is refused ------------------------------------------------------------------------------


def test_an_edit_that_changes_nothing_is_an_error(model: Any, clean: Prompts) -> None:
    idle = edited(model, Edit("blocks.1.attn.hook_z", torch.clone, "a copy"))
    with pytest.raises(NotMeasured, match=r"a copy changed nothing.*noop=True"):
        logit_diff(idle, clean)


def test_ablating_twice_is_an_error(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotMeasured, match="zero ablation of L1H1 changed nothing"):
        logit_diff(zero_ablate(zero_ablate(model, SOME), SOME), clean)


def test_resampling_from_the_same_prompts_is_an_error(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotMeasured, match="resample ablation of L1H1 changed nothing"):
        logit_diff(resample_ablate(model, SOME, clean), clean)


def test_resampling_from_other_shapes_is_an_error(model: Any, clean: Prompts) -> None:
    fewer = clean.select(torch.tensor([0, 1, 2]))
    with pytest.raises(NotMeasured, match="take both from the same pairs"):
        logit_diff(resample_ablate(model, SOME, fewer), clean)


def test_resampling_from_a_single_prompt_does_not_spread_over_the_batch(
    model: Any, clean: Prompts
) -> None:
    one = clean.select(torch.tensor([3]))
    with pytest.raises(NotMeasured, match="take both from the same pairs"):
        logit_diff(resample_ablate(model, SOME, one), clean)


def test_an_edit_that_changes_the_shape_is_an_error(model: Any, clean: Prompts) -> None:
    cut = edited(model, Edit("blocks.1.attn.hook_z", lambda z: z[:1], "a cut"))
    with pytest.raises(NotMeasured, match="a cut: expected shape"):
        logit_diff(cut, clean)


def test_a_hook_the_model_lacks_is_an_error_that_names_near_ones(
    model: Any, clean: Prompts
) -> None:
    with pytest.raises(NotMeasured, match=r"no hook 'blocks\.1\.attn\.hook_zz'.*hook_z"):
        cache(model, clean, ["blocks.1.attn.hook_zz"])
    with pytest.raises(NotMeasured, match=r"no hook 'blocks\.9\.hook_resid_pre'"):
        cache(edited(model, Edit("blocks.9.hook_resid_pre", torch.zeros_like, "x")), clean)


class Mute:
    """A model with a hook that never fires, as a broken TransformerLens option would give."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.cfg = inner, inner.cfg

    hook_dict: Mapping[str, None] = {"blocks.1.attn.hook_z": None, FINAL: None}

    @property
    def W_O(self) -> Tensor:
        return self.inner.W_O  # type: ignore[no-any-return]  # the inner model is untyped

    def parameters(self) -> Any:
        return self.inner.parameters()

    def run_with_hooks(self, tokens: Tensor, fwd_hooks: object = None) -> Any:
        return self.inner(tokens)


def test_a_hook_that_does_not_fire_is_an_error(model: Any, clean: Prompts) -> None:
    mute: Bridge = Mute(model)
    with pytest.raises(NotMeasured, match="did not fire: zero ablation of L1H1"):
        logit_diff(zero_ablate(mute, SOME), clean)
    with pytest.raises(NotMeasured, match=r"did not fire: blocks\.1\.attn\.hook_z"):
        cache(mute, clean, ["blocks.1.attn.hook_z"])


def test_logits_that_are_not_finite_are_an_error(model: Any, clean: Prompts) -> None:
    broken = edited(model, Edit("blocks.2.hook_resid_post", lambda x: x * torch.nan, "nan"))
    with pytest.raises(NotMeasured, match="logits are not finite"):
        logit_diff(broken, clean)


# --- padding --------------------------------------------------------------------------------------


KERNELS: dict[str, Callable[[Model, Prompts], Tensor]] = {
    "logit_diff": logit_diff,
    "loss": loss,
    "attention": lambda m, p: attention(m, p, SOME, "END", "IO"),
    "attribute": lambda m, p: attribute(m, p, SOME, "answer"),
    "moved": lambda m, p: moved(m, p, SOME, "END", "IO"),
    "copy_effect": lambda m, p: copy_effect(m, p)[:, 1, 1],
    "zero_ablate": lambda m, p: logit_diff(zero_ablate(m, SOME), p),
    "shuffled": lambda m, p: attention(m, p, SOME, "END", "BOS"),
}


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_padding_does_not_change_the_result_of_a_shorter_prompt(
    kernel: Callable[[Model, Prompts], Tensor], model: Any, clean: Prompts
) -> None:
    together = kernel(model, clean)
    for row, length in enumerate(clean.lengths.tolist()):
        one = clean.select(torch.tensor([row]))
        alone = kernel(model, replace(one, tokens=one.tokens[:, :length]))
        agree(alone, together[row : row + 1], ROUNDING)


def test_what_stands_in_the_padding_does_not_matter(model: Any, clean: Prompts) -> None:
    inside = torch.arange(clean.tokens.shape[1]) < clean.lengths[:, None]
    assert not bool(inside.all())
    other = replace(clean, tokens=torch.where(inside, clean.tokens, 7))
    for kernel in KERNELS.values():
        agree(kernel(model, other), kernel(model, clean), ROUNDING)


# --- remembering ----------------------------------------------------------------------------------


def test_remembering_gives_identical_numbers(model: Any, pairs: PromptPairs) -> None:
    few = pairs.select(range(4))
    clean, corrupted = few.clean, few.corrupted
    assert corrupted is not None
    first, other = Head(0, 0), Head(0, 1)

    def numbers() -> list[Tensor]:
        models: list[Model] = [
            model,
            zero_ablate(model, first),
            zero_ablate(model, SOME),
            zero_ablate(model, [first, SOME]),
            resample_ablate(model, SOME, corrupted),
            resample_ablate(zero_ablate(model, first), SOME, corrupted),
            zero_ablate(resample_ablate(model, SOME, corrupted), first),
            edited(model, Edit("hook_embed", torch.neg, "an edit without a key")),
            zero_ablate(edited(model, Edit("hook_embed", torch.exp, "another one")), first),
        ]
        return [
            value
            for m in models
            for value in (
                logit_diff(m, clean),
                attribute(m, clean, other, "answer"),
                attention(m, clean, SOME, "END", "IO"),
            )
        ]

    plain = numbers()
    with remembering(Memory()):
        for _ in range(2):
            for expected, found in zip(plain, numbers(), strict=True):
                assert torch.equal(expected, found)
    assert len({tuple(value.tolist()) for value in plain[::3]}) == 9


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the forward passes of a test."""
    count, plain = [0], runs._finished

    def counted(*args: Any) -> Any:
        count[0] += 1
        return plain(*args)

    monkeypatch.setattr(runs, "_finished", counted)
    return count


def test_a_remembered_run_is_not_run_again(
    forwards: list[int], model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    with remembering(Memory()):
        for _ in range(3):
            logit_diff(model, clean)
            logit_diff(zero_ablate(model, SOME), clean)
            logit_diff(resample_ablate(model, SOME, corrupted), clean)
    assert forwards == [4]  # clean, zero-ablated, corrupted, resampled


def test_the_same_tokens_under_other_labels_keep_their_own_numbers(
    model: Any, pairs: PromptPairs
) -> None:
    mixed = pairs.shuffled(0).clean
    plain = [attention(model, prompts, SOME, "END", "IO") for prompts in (pairs.clean, mixed)]
    with remembering(Memory()):
        again = [attention(model, prompts, SOME, "END", "IO") for prompts in (pairs.clean, mixed)]
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert not torch.equal(*plain)


def test_nothing_is_remembered_outside_the_block(
    forwards: list[int], model: Any, clean: Prompts
) -> None:
    logit_diff(model, clean)
    logit_diff(model, clean)
    assert forwards == [2]


def test_an_edit_that_cannot_say_what_it_does_is_never_remembered(
    forwards: list[int], model: Any, clean: Prompts
) -> None:
    with remembering(Memory()):
        first = logit_diff(edited(model, Edit("hook_embed", torch.neg, "same words")), clean)
        second = logit_diff(edited(model, Edit("hook_embed", torch.exp, "same words")), clean)
    assert forwards == [2]
    assert not torch.equal(first, second)


def test_changed_weights_are_run_again(clean: Prompts) -> None:
    own = micro.boot_micro(micro.random_model(seed=1))
    with remembering(Memory()):
        before = logit_diff(own, clean)
        with torch.no_grad():
            next(iter(own.parameters())).mul_(2)
        after = logit_diff(own, clean)
    assert torch.equal(after, logit_diff(own, clean))
    assert not torch.equal(before, after)


def test_a_memory_stays_within_its_bound_and_still_answers(model: Any, clean: Prompts) -> None:
    small = Memory(max_bytes=1)
    with remembering(small):
        assert torch.equal(logit_diff(model, clean), logit_diff(model, clean))
    assert small.bytes <= 1


def test_a_value_outlives_the_runs_that_drive_each_other_out(model: Any, clean: Prompts) -> None:
    run = cache(model, clean)
    small, computed = Memory(max_bytes=16 * run.final.numel() * 8), []

    def value() -> Tensor:
        computed.append("once")
        return torch.ones(1)

    with remembering(small):
        recalled("key", model, value)
        for rows in range(1, 7):
            logit_diff(model, clean.select(torch.arange(rows).repeat(3)))
        recalled("key", model, value)
    assert computed == ["once"]
    assert small.bytes <= small.max_bytes
