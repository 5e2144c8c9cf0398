"""A model's modules and weights, without the names that torch makes for each on the way: sweeps ask
several times, and a bridge has a thousand modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def parameters(model: Any) -> list[Tensor]:
    """Every weight of the Hugging Face model under a bridge, as its own `parameters()` gives them;
    one that modules share is there for each of them. What is no bridge answers for itself."""
    below = getattr(model, "original_model", None)
    if not isinstance(below, torch.nn.Module):
        return list(model.parameters())
    return [
        weight
        for module in modules(below)
        for weight in module._parameters.values()
        if weight is not None
    ]


def modules(model: torch.nn.Module) -> list[torch.nn.Module]:
    """A module and all below it, each once, as `modules()` gives them in another order."""
    found: dict[int, torch.nn.Module] = {}
    waiting = [model]
    while waiting:
        module = waiting.pop()
        if id(module) not in found:
            found[id(module)] = module
            waiting += [below for below in module._modules.values() if below is not None]
    return list(found.values())
