"""Runs that start at the layer of their first edit give what whole runs give, to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures
from claimlens.ci.selftests.kernels.samples import SOME
from claimlens.circuits.kernels import cache as runs
from claimlens.circuits.kernels import resume
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.cache import Edit, Model, cache, edited
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.kernels.patch import patch
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotMeasured

HOOKS = ["blocks.0.attn.hook_pattern", "blocks.1.hook_resid_post", "ln_final.hook_scale"]


def turned(x: Tensor) -> Tensor:
    return x.flip(-1) * 1.5


def edits(layer: int) -> dict[str, Callable[[Any, Prompts], Model]]:
    """Changes that begin in this layer or behind it."""
    return {
        "head": lambda m, p: zero_ablate(m, Head(layer, 1)),
        "stream": lambda m, p: edited(m, Edit(f"blocks.{layer}.hook_resid_pre", turned, "x")),
        "mlp": lambda m, p: edited(m, Edit(f"blocks.{layer}.hook_mlp_out", turned, "x")),
        "output": lambda m, p: edited(m, Edit(f"blocks.{layer}.hook_resid_post", turned, "x")),
        "end": lambda m, p: patch(m, f"blocks.{layer}.hook_resid_pre", p, "END", noop=True),
        "final": lambda m, p: edited(m, Edit("ln_final.hook_normalized", turned, "x")),
        "two": lambda m, p: zero_ablate(zero_ablate(m, Head(1, 0)), Head(layer, 1)),
        "embedding": lambda m, p: edited(m, Edit("hook_embed", turned, "x")),
    }


@contextmanager
def layers_run(bridge: Any) -> Iterator[list[int]]:
    """Which blocks were run, in order."""
    order: list[int] = []
    handles = [
        block.register_forward_pre_hook(lambda m, args, n=n: order.append(n))
        for n, block in enumerate(bridge.blocks)
    ]
    try:
        yield order
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.filterwarnings("ignore:A forward hook edited hook_scale")  # as "final" does
@pytest.mark.parametrize("what", list(edits(1)))
@pytest.mark.parametrize("name", architectures.NAMES)
def test_a_run_that_starts_inside_is_the_whole_run(name: str, what: str, clean: Prompts) -> None:
    bridge = architectures.bridge(name)
    model = edits(1)[what](bridge, clean)
    whole = cache(model, clean, HOOKS)
    with remembering(Memory()):
        first = cache(bridge, clean)
        assert first.calls is not None
        found = cache(model, clean, HOOKS)
        later = cache(bridge, clean, HOOKS)
    assert torch.equal(found.final, whole.final)
    plain = cache(bridge, clean, HOOKS)
    assert torch.equal(later.final, plain.final)
    for hook in HOOKS:
        assert torch.equal(found[hook], whole[hook]), hook
        assert torch.equal(later[hook], plain[hook]), hook


def test_only_the_layers_that_matter_are_run(model: Any, clean: Prompts) -> None:
    with remembering(Memory()):
        with layers_run(model) as order:
            cache(model, clean)
        assert order == [0, 1, 2, 2]  # the last one twice: does it give the same again?
        with layers_run(model) as order:
            cache(zero_ablate(model, SOME), clean)
        assert order == [1, 2]
        with layers_run(model) as order:
            cache(model, clean, ["blocks.1.attn.hook_pattern"])
        assert order == [1]
        with layers_run(model) as order:
            cache(model, clean, ["blocks.0.attn.hook_z", "blocks.1.hook_mlp_out"])
        assert order == [0, 1]
        with layers_run(model) as order:
            cache(model, clean, ["blocks.1.attn.hook_v", "ln_final.hook_scale"])
        assert order == [1, 2]
        with layers_run(model) as order:
            cache(edited(model, Edit("ln_final.hook_in", turned, "x")), clean)
        assert order == [2]
        with layers_run(model) as order:
            cache(edited(model, Edit("hook_embed", turned, "x")), clean)
        assert order == [0, 1, 2]
    with layers_run(model) as order:
        cache(zero_ablate(model, SOME), clean)
    assert order == [0, 1, 2]  # nothing is remembered, so there is nothing to start from


def test_a_model_that_does_not_give_the_same_again_is_run_whole(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that keeps state between calls would."""
    whole = cache(zero_ablate(model, SOME), clean)
    monkeypatch.setattr(runs, "resumes_exactly", lambda bridge, calls, final: False)
    with remembering(Memory()), layers_run(model) as order:
        assert cache(model, clean).calls is None
        found = cache(zero_ablate(model, SOME), clean)
    assert order == [0, 1, 2, 0, 1, 2]
    assert torch.equal(found.final, whole.final)


def test_another_final_stream_is_noticed(model: Any, clean: Prompts) -> None:
    with remembering(Memory()):
        run = cache(model, clean)
    assert run.calls is not None
    assert resume.resumes_exactly(model, run.calls, run.final)
    assert not resume.resumes_exactly(model, run.calls, run.final + 1e-12)
    assert not resume.resumes_exactly(model, resume.Calls(), run.final)


def test_an_edit_that_changes_nothing_is_an_error_here_too(model: Any, clean: Prompts) -> None:
    same = edited(model, Edit("blocks.2.attn.hook_z", lambda z: z, "nothing"))
    with remembering(Memory()):
        cache(model, clean)
        with pytest.raises(NotMeasured, match="nothing changed nothing"):
            cache(same, clean)
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_layers_of_hooks() -> None:
    assert resume.first_layer(["blocks.10.hook_mlp_out", "blocks.9.attn.hook_q"], 12) == 9
    assert resume.first_layer(["ln_final.hook_scale"], 12) == 12
    assert resume.first_layer(["blocks.3.ln1.hook_in", "hook_pos_embed"], 12) == -1
    assert resume.first_layer([], 12) == -1
    assert resume.last_layer(["blocks.10.hook_mlp_out", "blocks.9.attn.hook_q"], 12) == 10
    assert resume.last_layer(["hook_embed", "unembed.hook_in"], 12) == 12
