"""From a normalised final residual stream to logits."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.bridge import Bridge, soft_cap

FINAL = "unembed.hook_in"
"""The hook on what the unembedding is given: the final residual stream, normalised."""


def read_out(
    model: Bridge, normalised: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_vocab"]:
    """The logits of a normalised final residual stream: W_U, b_U and the soft cap [logits].

    By the model's own module, so that they are those of a whole forward to the bit.
    """
    module: Any = getattr(model, "unembed")  # noqa: B009  (not part of the protocol)
    with torch.set_grad_enabled(normalised.requires_grad):
        logits: Tensor = module(rearrange(normalised, "... d_model -> 1 (...) d_model"))
        cap = soft_cap(model)
        capped = logits if cap is None else cap * (logits / cap).tanh()
    return capped.reshape(*normalised.shape[:-1], logits.shape[-1])
