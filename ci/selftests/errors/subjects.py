"""The micro models, prompts and SAEs that entries are about, each made once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor

from claimlens.ci.selftests import architectures, micro
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.kernels.sae import Architecture, Sae
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.fixtures.bench import Bench
from claimlens.fixtures.prompts.ioi import ioi_prompts
from claimlens.fixtures.prompts.names import name_prompts
from claimlens.fixtures.prompts.repeated import repeated_prompts
from claimlens.fixtures.tokens import Vocabulary

FIRST, SOME, LAST, NOWHERE = Head(0, 1), Head(1, 1), Head(2, 1), Head(9, 9)
OUT = "blocks.1.hook_mlp_out"
_CPU = torch.device("cpu")


@cache
def words() -> Vocabulary:
    """The words that the micro model knows."""
    return Vocabulary(micro.tokenizer())


@cache
def pairs() -> PromptPairs:
    """IOI prompts of several lengths."""
    return ioi_prompts(words(), 12, 0, _CPU)


def clean() -> Prompts:
    """Their clean side."""
    return pairs().clean


def corrupted() -> Prompts:
    """Their other side."""
    found = pairs().corrupted
    assert found is not None
    return found


def turned() -> Prompts:
    """The other side in another order: padded alike, but each prompt of another length."""
    return corrupted().select(torch.arange(len(corrupted())).roll(1))


def few() -> Prompts:
    """Three prompts of the other side."""
    return corrupted().select(torch.arange(3))


def nothing() -> Prompts:
    """No prompts."""
    return clean().select(torch.arange(0))


@cache
def names() -> Prompts:
    """BOS and a name, one to a prompt."""
    return name_prompts(words(), _CPU).clean


@cache
def repeated() -> PromptPairs:
    """Random tokens, twice."""
    return repeated_prompts(words(), 4, 0, _CPU, micro.CONTEXT)


def vectors() -> Tensor:
    """A vector for each IOI prompt."""
    return torch.ones(len(pairs()), micro.WIDTH, dtype=torch.float64)


@cache
def gemma() -> Any:
    """A model that normalises what its attention and its MLPs write."""
    return architectures.bridge("Gemma2")


@cache
def llama() -> Any:
    """A model with shared keys, gated MLPs and no biases."""
    return architectures.bridge("Llama")


@cache
def planted(name: str = "planted") -> Any:
    """A model whose circuit is known."""
    return Bench(name).model


def changed(change: Callable[[Any], object]) -> Any:
    """The micro model with other weights, booted anew."""
    raw = copy.deepcopy(micro.random_model())
    with torch.no_grad():
        change(raw.transformer)
    return micro.boot_micro(raw)


@cache
def silent() -> Any:
    """The micro model, whose attention in layer 1 writes nothing."""
    return changed(lambda raw: raw.h[1].attn.c_proj.weight.zero_())


def sae(architecture: Architecture = "standard", hook: str = OUT, **changes: Any) -> Sae:
    """A random SAE on a hook as wide as the stream."""
    return random_sae(architecture, hook, micro.WIDTH, **changes)


def quiet_sae(*latents: int) -> Sae:
    """One whose named latents never fire."""
    found = sae()
    assert found.b_enc is not None
    b_enc = found.b_enc.clone()
    b_enc[list(latents)] = -1e6
    return replace(found, b_enc=b_enc)


def unchecked(kernel: Any) -> Any:
    """The kernel without the shape checks of the self-tests, as a user has it."""
    return unwrap(kernel)
