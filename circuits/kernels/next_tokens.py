"""What the model says next: the likeliest tokens, and where an answer stands among them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.metrics import end_logits
from claimlens.circuits.parts import Prompts


@dataclass(frozen=True, eq=False)
class NextTokens:
    """The likeliest tokens after END, best first: logit over the vocabulary's mean [logits]."""

    ids: Int[Tensor, "batch k"]
    logits: Float[Tensor, "batch k"]
    probabilities: Float[Tensor, "batch k"]


@dataclass(frozen=True, eq=False)
class Standing:
    """One token's place after END: `rank` 0 is the likeliest, logit over the vocabulary's mean."""

    rank: Int[Tensor, " batch"]
    logit: Float[Tensor, " batch"]
    probability: Float[Tensor, " batch"]


def top_tokens(model: Model, prompts: Prompts, k: int = 10) -> NextTokens:
    """The `k` likeliest next tokens after END (test_prompt of seeds 001 and 002).

    Logits are given over the vocabulary's mean: raw ones differ by a constant between processed
    and unprocessed weights. Raises ValueError for a `k` that the vocabulary does not have.
    """
    logits = _centred(model, prompts)
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k={k}: expected 1 to {logits.shape[1]}, the size of the vocabulary")
    best, ids = logits.topk(k, dim=1)
    return NextTokens(ids, best, logits.softmax(1).gather(1, ids))


def standing(
    model: Model, prompts: Prompts, tokens: Int[Tensor, " batch"] | None = None
) -> Standing:
    """Rank, logit and probability after END of one token per prompt; without `tokens` the answer.

    The rank counts the tokens with a higher logit. Raises ValueError where there is no answer.
    """
    wanted = prompts.answer if tokens is None else tokens
    if wanted is None:
        raise ValueError("these prompts have no answers; give the tokens to look for")
    logits = _centred(model, prompts)
    mine = logits.gather(1, wanted[:, None])
    probability = logits.softmax(1).gather(1, wanted[:, None])[:, 0]
    return Standing((logits > mine).sum(1), mine[:, 0], probability)


def _centred(model: Model, prompts: Prompts) -> Float[Tensor, "batch d_vocab"]:
    logits = end_logits(model, prompts)
    return logits - logits.mean(1, keepdim=True)
