"""Which tokens a logit difference hangs on: the gradient at each embedding, times the embedding.

A first-order guess, made to show where to look. What a token does is said by changing it.
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.attribution_patching import end_logit_diff
from claimlens.circuits.kernels.cache import Model, differentiable
from claimlens.circuits.parts import Prompts

EMBEDDING = "hook_embed"


def input_attribution(model: Model, prompts: Prompts) -> Float[Tensor, "batch pos"]:
    """Embedding of each token times the gradient of the logit difference there [logits].

    Gradient x input (Simonyan et al. 2014, arXiv:1312.6034; Shrikumar et al. 2016,
    arXiv:1605.01713), at the token embeddings, without positions. What is added to a token's
    embedding in proportion to it changes the logit difference so much, to first order. 0 at
    padding. Raises NotMeasured where no gradient reaches the embeddings, ValueError for prompts
    without answers.
    """
    run = differentiable(model, prompts, [EMBEDDING])
    (slope,) = torch.autograd.grad(end_logit_diff(run, prompts).sum(), [run[EMBEDDING]])
    found = einsum(run[EMBEDDING].detach(), slope, "b p d, b p d -> b p")
    inside = torch.arange(found.shape[1], device=found.device) < prompts.lengths[:, None]
    return found.masked_fill(~inside, 0.0)
