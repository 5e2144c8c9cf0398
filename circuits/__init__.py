"""How claimlens measures: a model and prompts in, one value per prompt out.

Nothing here imports pytest, reads a file or picks a device, and importing this package imports
no torch: each name below is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from claimlens.circuits.kernels.ablate import mean_ablate as mean_ablate
    from claimlens.circuits.kernels.ablate import resample_ablate as resample_ablate
    from claimlens.circuits.kernels.ablate import zero_ablate as zero_ablate
    from claimlens.circuits.kernels.attention import attention as attention
    from claimlens.circuits.kernels.attribution import attribute as attribute
    from claimlens.circuits.kernels.attribution import moved as moved
    from claimlens.circuits.kernels.cache import cache as cache
    from claimlens.circuits.kernels.copy_suppression import copy_effect as copy_effect
    from claimlens.circuits.metrics import correct as correct
    from claimlens.circuits.metrics import logit_diff as logit_diff
    from claimlens.circuits.metrics import loss as loss
    from claimlens.circuits.metrics import margin_over_others as margin_over_others
    from claimlens.circuits.parts import Circuit as Circuit
    from claimlens.circuits.parts import Head as Head
    from claimlens.circuits.parts import Position as Position
    from claimlens.circuits.parts import PromptPairs as PromptPairs
    from claimlens.circuits.parts import Prompts as Prompts

_HOME = {
    "mean_ablate": "kernels.ablate",
    "resample_ablate": "kernels.ablate",
    "zero_ablate": "kernels.ablate",
    "attention": "kernels.attention",
    "attribute": "kernels.attribution",
    "moved": "kernels.attribution",
    "cache": "kernels.cache",
    "copy_effect": "kernels.copy_suppression",
    "correct": "metrics",
    "logit_diff": "metrics",
    "loss": "metrics",
    "margin_over_others": "metrics",
    "Circuit": "parts",
    "Head": "parts",
    "Position": "parts",
    "PromptPairs": "parts",
    "Prompts": "parts",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
