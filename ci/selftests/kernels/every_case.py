"""One architecture under test: its bridge, its raw Hugging Face model, and prompts for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from claimlens.ci.selftests import architectures
from claimlens.circuits.parts import Head, PromptPairs, Prompts

HEAD = Head(1, 1)
ROUNDING = 2e-5
"""Folding is done in float32, and so is the RMSNorm of Llama and Gemma whatever the dtype."""


@dataclass(frozen=True, eq=False)
class Case:
    """One architecture and the prompts it is asked about."""

    name: str
    pairs: PromptPairs
    swapped: PromptPairs
    repeated: PromptPairs

    @property
    def model(self) -> Any:
        return architectures.bridge(self.name)

    @property
    def clean(self) -> Prompts:
        return self.pairs.clean

    @property
    def other(self) -> Prompts:
        assert self.pairs.corrupted is not None
        return self.pairs.corrupted

    @property
    def heads(self) -> list[Head]:
        layers, heads = self.model.cfg.n_layers, self.model.cfg.n_heads
        return [Head(layer, index) for layer in range(layers) for index in range(heads)]

    def raw(self, prompts: Prompts) -> Tensor:
        """Logits of the raw model, with whatever hooks it has now."""
        with torch.no_grad():
            logits: Tensor = architectures.raw(self.name)(prompts.tokens).logits
        return logits

    def seen(self, prompts: Prompts, layer: int) -> Tensor:
        """Attention of the raw model."""
        with torch.no_grad():
            found = architectures.raw(self.name)(prompts.tokens, output_attentions=True).attentions
        pattern: Tensor = found[layer]
        return pattern

    def end(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        return torch.arange(len(prompts)), prompts.at("END")[:, 0]


def zeroing(case: Case, head: Head) -> architectures.hooked:
    """Within it, the raw model's head writes nothing but its value bias, which the bridge has in
    b_O."""
    model = architectures.raw(case.name)
    left = architectures.value_bias(model, head.layer, head.index)

    def change(z: Tensor) -> Tensor:
        new = z.clone()
        new[..., head.index * len(left) : (head.index + 1) * len(left)] = left
        return new

    return architectures.hooked(architectures.output_projection(model, head.layer), change)


Check = Callable[[Case], None]
