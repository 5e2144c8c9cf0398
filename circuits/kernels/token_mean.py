"""Means over the tokens of prompts, BOS and padding left out: what mean ablations put in place."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from claimlens.circuits.kernels.cache import Model, cache
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotMeasured


def counted(prompts: Prompts) -> Bool[Tensor, "batch pos"]:
    """Where a token stands that is not the first: the first is BOS."""
    index = torch.arange(prompts.tokens.shape[1], device=prompts.tokens.device)
    return (index > 0) & (index < prompts.lengths[:, None])


def check_counted(prompts: Prompts) -> Bool[Tensor, "batch pos"]:
    """The same; raises NotMeasured where there is none, whose mean would be NaN."""
    found = counted(prompts)
    if not bool(found.any()):
        raise NotMeasured(
            f"no tokens to take the mean over: {len(prompts)} prompts hold none but their first; "
            "give prompts of two tokens or more"
        )
    return found


def token_mean(model: Model, over: Prompts, hook: str) -> Float[Tensor, " d"]:
    """Mean of an activation over the tokens of `over` but the first of each.

    Raises NotMeasured where there are none, before any run.
    """
    here = check_counted(over)
    return cache(model, over, [hook])[hook][here].mean(0)
