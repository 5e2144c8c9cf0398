"""Directions of the residual stream, and vectors split along them."""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.kernels.ablate import z_of
from claimlens.circuits.kernels.bridge import check_plain_output, output_weights, unembedding
from claimlens.circuits.kernels.cache import Model, intact
from claimlens.circuits.metrics import answer_tokens
from claimlens.circuits.parts import Head, Position, Prompts


def head_output(
    model: Model, prompts: Prompts, head: Head, at: str | Position = "END"
) -> Float[Tensor, "batch d_model"]:
    """What `head` writes at a position: its z through W_O, without b_O [residual stream].

    In compatibility mode the value bias is part of b_O, so a head that is zero-ablated writes
    exactly nothing. Raises ValueError where the label stands for several positions, and
    NotApplicable where what heads write is normalised first (Gemma 2).
    """
    check_plain_output(intact(model), head)
    index = one_position(prompts, at)
    z = z_of(model, prompts, head)
    own = z[torch.arange(len(prompts), device=z.device), index]
    return einsum(
        own, output_weights(intact(model), head), "batch d_head, d_head d_model -> batch d_model"
    )


def token_directions(model: Model, tokens: Int[Tensor, " batch"]) -> Float[Tensor, "batch d_model"]:
    """The unembedding of each token: what raises its logit [logits per residual unit]."""
    return unembedding(intact(model)).T[tokens]


def answer_direction(model: Model, prompts: Prompts) -> Float[Tensor, "batch d_model"]:
    """W_U[answer] - W_U[wrong answer]: what raises the logit difference, prompt by prompt.

    Divided by the final scale, the product with any part of the residual stream is that part's
    direct effect on the logit difference (seed 000, `logit_diff_directions`).
    """
    answer, wrong = answer_tokens(prompts)
    return token_directions(model, answer) - token_directions(model, wrong)


def split(
    vector: Float[Tensor, "batch d_model"], direction: Float[Tensor, "batch d_model"]
) -> tuple[Float[Tensor, "batch d_model"], Float[Tensor, "batch d_model"]]:
    """The parts of each vector along and orthogonal to its direction; they sum to the vector.

    From seed 000, `run_query_intervention_with_setup`, where a head's output is split along the
    unembedding of the indirect object. Raises ValueError for a direction of length 0.
    """
    if vector.shape != direction.shape:
        raise ValueError(
            f"vectors of shape {tuple(vector.shape)} along directions of shape "
            f"{tuple(direction.shape)}; give one direction per vector, of the same width"
        )
    squared = direction.square().sum(-1, keepdim=True)
    if bool((squared == 0).any()):
        raise ValueError("a direction has length 0: there is nothing to split along")
    along = (vector * direction).sum(-1, keepdim=True) / squared * direction
    return along, vector - along


def one_position(prompts: Prompts, at: str | Position) -> Int[Tensor, " batch"]:
    """The index of a label that stands for one position per prompt; raises ValueError for more."""
    index = prompts.at(at)
    if index.shape[1] != 1:
        raise ValueError(
            f"{at} stands for {index.shape[1]} positions per prompt; a vector is taken at one"
        )
    return index[:, 0]
