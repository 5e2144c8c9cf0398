"""Every kernel on four architectures: GPT-2, Llama, GPT-NeoX and one like Gemma 2.

The referee is the raw Hugging Face model, with plain torch hooks where something is changed. What
has no meaning on an architecture is "not applicable", in exactly the places listed here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures
from claimlens.ci.selftests.kernels.samples import agree
from claimlens.circuits.kernels.ablate import (
    mean_ablate,
    resample_ablate,
    zero_ablate,
    zero_values,
)
from claimlens.circuits.kernels.attention import attention
from claimlens.circuits.kernels.attribution import attribute, moved
from claimlens.circuits.kernels.cache import Model, cache
from claimlens.circuits.kernels.composition import composition_matrix, compositions
from claimlens.circuits.kernels.copy_suppression import copy_effect, source_effect, source_effects
from claimlens.circuits.kernels.cspa import cspa_kl, cspa_kls
from claimlens.circuits.kernels.generate import generate, without_last
from claimlens.circuits.kernels.induction import label_scores, stripe
from claimlens.circuits.kernels.next_tokens import standing
from claimlens.circuits.kernels.patch import patch
from claimlens.circuits.metrics import logit_diff, loss
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.circuits.verdict import NotApplicable

HEAD = Head(1, 1)
ROUNDING = 2e-5
"""Folding is done in float32, and so is the RMSNorm of Llama and Gemma whatever the dtype."""
Kernel = Callable[[Model, Prompts, Prompts], Tensor]
KERNELS: dict[str, Kernel] = {
    "logit_diff": lambda m, clean, other: logit_diff(m, clean),
    "loss": lambda m, clean, other: loss(m, clean),
    "attention": lambda m, clean, other: attention(m, clean, HEAD, "END", "IO"),
    "label_scores": lambda m, clean, other: label_scores(m, clean, "END", "IO"),
    "stripe": lambda m, clean, other: stripe(m, clean, 1),
    "standing": lambda m, clean, other: standing(m, clean).probability,
    "generate": lambda m, clean, other: generate(m, without_last(clean, 4), 2).double(),
    "zero_ablate": lambda m, clean, other: logit_diff(zero_ablate(m, HEAD), clean),
    "mean_ablate": lambda m, clean, other: logit_diff(mean_ablate(m, HEAD, other), clean),
    "resample_ablate": lambda m, clean, other: logit_diff(resample_ablate(m, HEAD, other), clean),
    "zero_values": lambda m, clean, other: logit_diff(zero_values(m, HEAD), clean),
    "patch": lambda m, clean, other: logit_diff(patch(m, RESIDUAL, clean, "S2"), other),
    "attribute": lambda m, clean, other: attribute(m, clean, HEAD, "logit_diff"),
    "moved": lambda m, clean, other: moved(m, clean, HEAD, "END", "IO"),
    "copy_effect": lambda m, clean, other: copy_effect(m, clean, "IO"),
    "source_effects": lambda m, clean, other: source_effects(m, clean).per_source,
    "source_effect": lambda m, clean, other: source_effect(m, clean, HEAD),
    "cspa_kl": lambda m, clean, other: cspa_kl(m, clean, HEAD, at="IO"),
    "cspa_kls": lambda m, clean, other: cspa_kls(m, clean, at="IO"),
}
OF_NAMES: dict[str, Callable[[Model, Prompts], Tensor]] = {
    "composition_matrix": lambda m, names: composition_matrix(m, names, Head(0, 1), HEAD),
    "compositions": lambda m, names: compositions(m, names, None, None, k=5).matches.double(),
}
RESIDUAL = "blocks.1.hook_resid_pre"
NOT_APPLICABLE = {
    ("zero_values", "Llama"): "share their values",
    ("zero_values", "Gemma2"): "share their values",
    ("attribute", "Gemma2"): "normalised together with the other heads",
    ("moved", "Gemma2"): "normalised together with the other heads",
    ("copy_effect", "Gemma2"): "normalised together with the other heads",
    ("source_effects", "Gemma2"): "normalised together with the other heads",
    ("source_effect", "Gemma2"): "normalised together with the other heads",
    ("cspa_kl", "Gemma2"): "normalised together with the other heads",
    ("cspa_kls", "Gemma2"): "normalised together with the other heads",
    ("composition_matrix", "Gemma2"): "normalised together with the other heads",
    ("compositions", "Gemma2"): "normalised together with the other heads",
}
CAPPED = ("attribute", "moved", "copy_effect", "source_effects", "source_effect")
"""What a soft cap alone makes meaningless: sums of what is added to a logit."""


@pytest.fixture(params=architectures.NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_measures_or_says_why_not(kernel: str, name: str, pairs: PromptPairs) -> None:
    assert pairs.corrupted is not None
    model, reason = architectures.bridge(name), NOT_APPLICABLE.get((kernel, name))
    if reason is not None:
        with pytest.raises(NotApplicable, match=reason):
            KERNELS[kernel](model, pairs.clean, pairs.corrupted)
        return
    found = KERNELS[kernel](model, pairs.clean, pairs.corrupted)
    assert len(found) == len(pairs)
    assert bool(torch.isfinite(found).all())
    assert float(found.double().std()) > 0


@pytest.mark.parametrize("kernel", OF_NAMES)
def test_a_kernel_of_names_measures_or_says_why_not(kernel: str, name: str, names: Prompts) -> None:
    model, reason = architectures.bridge(name), NOT_APPLICABLE.get((kernel, name))
    if reason is not None:
        with pytest.raises(NotApplicable, match=reason):
            OF_NAMES[kernel](model, names)
        return
    found = OF_NAMES[kernel](model, names)
    assert len(found) == len(names)
    assert bool(torch.isfinite(found).all())
    assert float(found.std()) > 0


@pytest.mark.parametrize("kernel", CAPPED)
def test_capped_logits_have_no_direct_effects(
    kernel: str, pairs: PromptPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing else is in the way, as normalised outputs are in Gemma 2."""
    assert pairs.corrupted is not None
    model = architectures.bridge("Llama")
    monkeypatch.setattr(model.cfg, "output_logits_soft_cap", 30.0, raising=False)
    with pytest.raises(NotApplicable, match="logits are soft-capped: no part of it just adds"):
        KERNELS[kernel](model, pairs.clean, pairs.corrupted)


def test_the_clean_run_is_that_of_the_raw_model(name: str, clean: Prompts) -> None:
    agree(log_probs(cache(architectures.bridge(name), clean).logits, clean), plain(name, clean))


def test_attention_is_that_of_the_raw_model(name: str, clean: Prompts) -> None:
    with torch.no_grad():
        seen = architectures.raw(name)(clean.tokens, output_attentions=True).attentions
    pattern = seen[HEAD.layer][:, HEAD.index]
    rows, end, io = torch.arange(len(clean)), clean.at("END")[:, 0], clean.at("IO")[:, 0]
    found = attention(architectures.bridge(name), clean, HEAD, "END", "IO")
    agree(found, pattern[rows, end, io], ROUNDING)


def test_resampling_is_that_of_the_raw_model(name: str, clean: Prompts, corrupted: Prompts) -> None:
    """The slice of one head, taken from the corrupted run before the output projection."""
    model = architectures.raw(name)
    module = architectures.output_projection(model, HEAD.layer)
    taken: list[Tensor] = []
    with hooked(module, lambda args: taken.append(args[0].clone())):
        plain(name, corrupted)
    d_head = taken[0].shape[-1] // int(model.config.num_attention_heads)
    mine = slice(HEAD.index * d_head, (HEAD.index + 1) * d_head)

    def swap(args: tuple[Any, ...]) -> tuple[Any, ...]:
        z = args[0].clone()
        z[..., mine] = taken[0][..., mine]
        return (z, *args[1:])

    with hooked(module, swap):
        expected = plain(name, clean)
    ablated = resample_ablate(architectures.bridge(name), HEAD, corrupted)
    agree(log_probs(cache(ablated, clean).logits, clean), expected, ROUNDING)
    assert float((expected - plain(name, clean)).abs().max()) > 1e-3


def test_a_patched_residual_is_that_of_the_raw_model(
    name: str, clean: Prompts, corrupted: Prompts
) -> None:
    module = architectures.blocks(architectures.raw(name))[1]
    taken: list[Tensor] = []
    with hooked(module, lambda args: taken.append(args[0].clone())):
        plain(name, clean)
    rows, s2 = torch.arange(len(clean)), clean.at("S2")[:, 0]

    def swap(args: tuple[Any, ...]) -> tuple[Any, ...]:
        residual = args[0].clone()
        residual[rows, corrupted.at("S2")[:, 0]] = taken[0][rows, s2]
        return (residual, *args[1:])

    with hooked(module, swap):
        expected = plain(name, corrupted)
    patched = patch(architectures.bridge(name), RESIDUAL, clean, "S2")
    agree(log_probs(cache(patched, corrupted).logits, corrupted), expected, ROUNDING)
    assert float((expected - plain(name, corrupted)).abs().max()) > 1e-3


class hooked:
    """Within this block, `change` sees a module's positional arguments and may replace them."""

    def __init__(self, module: Any, change: Callable[[tuple[Any, ...]], Any]) -> None:
        self.handle = module.register_forward_pre_hook(lambda _, args: change(args))

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


def plain(name: str, prompts: Prompts) -> Tensor:
    """Log-probs after END of the raw model, with whatever hooks it has now."""
    with torch.no_grad():
        return log_probs(architectures.raw(name)(prompts.tokens).logits, prompts)


def log_probs(logits: Tensor, prompts: Prompts) -> Tensor:
    rows = torch.arange(len(prompts))
    return logits[rows, prompts.at("END")[:, 0]].log_softmax(-1)
