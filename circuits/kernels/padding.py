"""Whether padding leaves a prompt's logits alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.metrics import end_logits
from claimlens.circuits.parts import Prompts


def padding_gap(model: Model, prompts: Prompts) -> Float[Tensor, " batch"]:
    """Largest change of a log-prob after END when a prompt is run without its padding [nats].

    Prompts of one length are run together, cut at that length. Zero up to rounding in any causal
    model that is padded on the right.
    """
    padded = end_logits(model, prompts).log_softmax(-1)
    gap = torch.zeros(len(prompts), dtype=padded.dtype, device=padded.device)
    for length in sorted(set(prompts.lengths.tolist())):
        rows = (prompts.lengths == length).nonzero()[:, 0]
        alone = end_logits(model, _cut(prompts.select(rows), length)).log_softmax(-1)
        gap[rows] = (alone - padded[rows]).abs().amax(1)
    return gap


def _cut(prompts: Prompts, length: int) -> Prompts:
    moved = None if prompts.moved is None else prompts.moved[:, :length]
    return replace(prompts, tokens=prompts.tokens[:, :length], moved=moved)
