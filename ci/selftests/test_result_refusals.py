"""What no key can be made of is refused, with the way out; with a folder and without."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.attention import attention
from claimlens.circuits.kernels.query_sweep import attention_readouts, sweep
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Head, PromptPairs
from claimlens.fixtures.prompts.ioi import ioi_prompts
from claimlens.fixtures.result_keys import Unkeyable
from claimlens.fixtures.results import ResultCache
from claimlens.fixtures.tokens import Vocabulary

HEAD = Head(1, 1)


def scaled(values: Tensor, scale: Any = 2.0) -> Any:
    return values * scale


def without(model: Any, prompts: Any, heads: Any) -> Tensor:
    return logit_diff(zero_ablate(model, heads), prompts)


@pytest.fixture
def model() -> Any:
    return micro.bridge("float64")


@pytest.fixture(scope="module")
def pairs() -> PromptPairs:
    return ioi_prompts(Vocabulary(micro.tokenizer()), 6, 0, torch.device("cpu"))


@pytest.fixture
def results(tmp_path: Path) -> ResultCache:
    return ResultCache(tmp_path / "results")


def measured(results: ResultCache, kernel: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether this call had to be measured."""
    results.measure(kernel, *args, **kwargs)
    return not results.log[-1].from_cache


def direction(pairs: PromptPairs, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    width = int(micro.bridge("float64").cfg.d_model)
    return torch.randn(len(pairs), width, generator=generator, dtype=torch.float64)


# --- what has no name ----------------------------------------------------------------------------


def inner() -> Callable[..., Tensor]:
    factor = 3

    def multiplied(values: Tensor) -> Tensor:
        return values * factor

    return multiplied


def with_class(values: Tensor) -> Tensor:
    return Local().times(values)


def with_own_module(values: Tensor) -> Tensor:
    result: Tensor = micro.nothing(values)  # type: ignore[attr-defined]  # never run
    return result


class Local:
    def times(self, values: Tensor) -> Tensor:
        return values * 2


decorated = functools.lru_cache(scaled)
wrapped = torch.no_grad()(scaled)

KERNELS: Mapping[str, tuple[Any, str]] = {
    "lambda": (lambda values: values, "is a lambda"),
    "inner function": (inner(), "inside a function"),
    "partial": (functools.partial(scaled, scale=2), "partial"),
    "method": (Local().times, "no plain function"),
    "cached": (decorated, "no plain function|decorated"),
    "decorated": (wrapped, "decorated"),
    "builtin": (torch.neg, "measure a function of your own"),
    "class of one's own": (with_class, "uses the class Local"),
    "module of one's own": (with_own_module, "uses the module"),
}


@pytest.mark.parametrize(("kernel", "why"), KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("kept", [True, False])
def test_a_kernel_that_its_name_does_not_describe_is_refused(
    kernel: Any, why: str, kept: bool, tmp_path: Path
) -> None:
    results = ResultCache(tmp_path / "results" if kept else None)
    with pytest.raises(Unkeyable, match=why):
        results.measure(kernel, torch.ones(2))


class Unnamed:
    pass


LOOP: list[Any] = []
LOOP.append(LOOP)
ARGUMENTS: Mapping[str, tuple[Any, str]] = {
    "object": (Unnamed(), "argument 'scale' is a .*Unnamed"),
    "path": (Path("file"), "PosixPath|WindowsPath"),
    "generator": (torch.Generator(), "Generator"),
    "NaN": (float("nan"), "NaN"),
    "inside a list": ([1, Unnamed()], r"'scale'\[1\]"),
    "inside a mapping": ({"a": Unnamed()}, r"\['a'\]"),
    "lambda": (lambda: 1, "is a lambda"),
    "in itself": (LOOP, "refers to itself"),
}


@pytest.mark.parametrize(("argument", "why"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_an_argument_without_a_name_is_refused(argument: Any, why: str) -> None:
    with pytest.raises(Unkeyable, match=why):
        ResultCache(None).measure(scaled, torch.ones(2), argument)


def test_an_edited_model_is_refused_and_the_way_out_is_said(
    results: ResultCache, model: Any, pairs: PromptPairs
) -> None:
    with pytest.raises(Unkeyable, match=r"zero ablation of L1H1.*def without"):
        results.measure(logit_diff, zero_ablate(model, HEAD), pairs.clean)


def test_a_readout_made_on_the_way_is_refused(
    results: ResultCache, model: Any, pairs: PromptPairs
) -> None:
    """One of your own; those of `attention_readouts` say what they read."""
    vector = direction(pairs)
    looks = attention_readouts(["IO"])
    results.measure(sweep, model, pairs.clean, [HEAD], vector, [0.0, 1.0], looks)
    readouts = {"IO": lambda m, p, head: attention(m, p, head, "END", "IO")}
    with pytest.raises(Unkeyable, match=r"\['IO'\].*a lambda or a function inside a function"):
        results.measure(sweep, model, pairs.clean, [HEAD], vector, [0.0, 1.0], readouts)


def test_a_model_with_hooks_left_on_it_is_refused(
    results: ResultCache, model: Any, pairs: PromptPairs
) -> None:
    model.add_hook("blocks.0.attn.hook_z", lambda z, hook: z * 0)
    with pytest.raises(Unkeyable, match=r"blocks\.0\.attn\.hook_z.*reset_hooks"):
        results.measure(logit_diff, model, pairs.clean)
    model.reset_hooks()
    assert measured(results, logit_diff, model, pairs.clean)


def test_a_model_in_training_mode_is_refused(
    results: ResultCache, model: Any, pairs: PromptPairs
) -> None:
    model.train()
    with pytest.raises(Unkeyable, match="training mode"):
        results.measure(logit_diff, model, pairs.clean)
    model.eval()


def test_a_wrong_call_is_the_kernels_own_error(results: ResultCache) -> None:
    with pytest.raises(TypeError, match="missing a required argument"):
        results.measure(scaled)  # type: ignore[call-arg]  # on purpose


def test_arrays_and_numbers_of_numpy_are_named(results: ResultCache) -> None:
    assert measured(results, scaled, torch.ones(2), np.float32(2))
    assert measured(results, scaled, torch.ones(2), np.float64(2))
    assert not measured(results, scaled, torch.ones(2), np.float64(2))
