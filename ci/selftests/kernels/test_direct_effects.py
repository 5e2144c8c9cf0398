"""The engine's effects along directions against their plain form, which makes what is moved."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures, micro
from claimlens.ci.selftests.kernels.samples import HEADS, ROUNDING, SOME, agree
from claimlens.circuits.engine import direct_effects
from claimlens.circuits.engine.direct_effects import layers, moved_along, written_along
from claimlens.circuits.engine.policy import Policy, using
from claimlens.circuits.kernels import copy_suppression
from claimlens.circuits.kernels.bridge import all_heads
from claimlens.circuits.kernels.copy_suppression import (
    Counted,
    copy_effect,
    plain_own_effects,
    source_effect,
    source_effects,
)
from claimlens.circuits.kernels.direct import direct_run
from claimlens.circuits.parts import Head, PromptPairs, Prompts

DIRECT = ("GPT2", "Llama", "GPTNeoX")


@pytest.mark.parametrize("name", DIRECT)
def test_what_is_moved_and_written_along_a_direction(name: str, clean: Prompts) -> None:
    model = architectures.bridge(name)
    heads = all_heads(model)[1:]
    run = direct_run(model, clean, heads)
    agree(moved_along(run, heads, run.own), plain_own_effects(run, heads, run.own), ROUNDING)
    dst = clean.at("S2")
    toward = torch.randn(len(clean), dst.shape[1], architectures.WIDTH).double()
    rows = torch.arange(len(clean))[:, None]
    by_hand = [(run.written(head)[rows, dst] * toward).sum(-1) for head in heads]
    agree(written_along(run, heads, dst, toward), torch.stack(by_hand, 1), ROUNDING)


@pytest.mark.parametrize("name", DIRECT)
@pytest.mark.parametrize("shuffled", [False, True])
def test_both_ways_give_the_same_effects(name: str, shuffled: bool, pairs: PromptPairs) -> None:
    model, prompts = architectures.bridge(name), (pairs.shuffled(3) if shuffled else pairs).clean
    counted = Counted(at_least=0.05, negative_only=True)
    found = []
    for mode, way in (("required", "engine"), ("hooks", "hooks: as asked")):
        with using(Policy(mode)) as policy:  # type: ignore[arg-type]  # both are modes
            effects = source_effects(model, prompts, counted)
            one, copied = source_effect(model, prompts, SOME_OTHER), copy_effect(model, prompts)
        assert set(policy.ways.values()) == {way}
        assert set(policy.ways) == {"source_effects", "source_effect", "copy_effect"}
        found.append((effects.per_source, effects.per_destination, one, copied))
    for fast, plain in zip(*found, strict=True):
        agree(fast, plain, 1e-9)


SOME_OTHER = Head(1, 0)


def test_in_float32(clean: Prompts) -> None:
    found = source_effects(micro.bridge("float32"), clean).per_source
    with using(Policy("hooks")):
        agree(found, source_effects(micro.bridge("float64"), clean).per_source, 1e-4)


def test_heads_stand_together_by_layer() -> None:
    assert [len(some) for some in layers(HEADS)] == [micro.HEADS] * micro.LAYERS
    assert list(layers([SOME])) == [[SOME]]


@pytest.mark.parametrize("broken", [torch.neg, lambda w: w.flip(0), lambda w: w.flip(1)])
def test_another_output_matrix_is_noticed(
    broken: Any, model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real = direct_run(model, clean, HEADS), direct_effects.stacked_output
    expected = plain_own_effects(run, HEADS, run.own)

    def wrong(*args: Any) -> Tensor:
        changed: Tensor = broken(real(*args))
        return changed

    monkeypatch.setattr(direct_effects, "stacked_output", wrong)
    with pytest.raises(AssertionError):
        agree(copy_suppression._own_effects("x", run, HEADS, run.own), expected)
