"""The unembedding bias: which tokens a model prefers before it has read anything.

Folding the final LayerNorm puts its bias behind the unembedding, where it works as unigram
statistics: frequent tokens high, rare ones low (TransformerLens main demo, seed 002).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.stats import spearmanr
from torch import Tensor

from claimlens.circuits.kernels.bridge import unembedding_bias
from claimlens.circuits.kernels.cache import Model, intact
from claimlens.circuits.kernels.weights import check_k
from claimlens.circuits.metrics import answer_tokens
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured


@dataclass(frozen=True)
class BiasExtremes:
    """Token ids and their bias [logits]: the highest first, and the lowest first."""

    top: tuple[tuple[int, float], ...]
    bottom: tuple[tuple[int, float], ...]


def bias_extremes(model: Model, k: int = 20) -> BiasExtremes:
    """The `k` tokens with the highest and the `k` with the lowest bias.

    Raises ValueError where k is not below the size of the vocabulary.
    """
    bias = _bias(model)
    check_k(k, len(bias), "tokens of the vocabulary")
    return BiasExtremes(_first(bias, k, largest=True), _first(bias, k, largest=False))


def bias_between(model: Model, prompts: Prompts) -> Float[Tensor, " batch"]:
    """b_U of the answer minus b_U of the wrong answer [logits]; zero in a model without a bias.

    That much of a logit difference was there before the prompt was read.
    """
    answer, wrong = answer_tokens(prompts)
    bias = unembedding_bias(intact(model))
    return bias[answer] - bias[wrong]


def bias_ratio(model: Model, prompts: Prompts) -> Float[Tensor, " batch"]:
    """How many times as likely the bias alone makes the answer: exp(`bias_between`) [ratio]."""
    return bias_between(model, prompts).exp()


def bias_of(model: Model, tokens: Int[Tensor, " token"]) -> Float[Tensor, " token"]:
    """b_U of these tokens [logits, over the vocabulary's mean].

    Raises NotApplicable where the model has no unembedding bias.
    """
    return _bias(model)[tokens]


def bias_frequency_correlation(
    model: Model, texts: Int[Tensor, " token"], fewest: int = 10
) -> Float[Tensor, ""]:
    """Spearman's correlation of b_U and the number of times a token occurs in `texts`.

    Over the tokens that occur. Raises NotApplicable without a bias, and NotMeasured where fewer
    than `fewest` tokens occur or all equally often.
    """
    bias = _bias(model)
    tokens, counts = torch.unique(texts, return_counts=True)
    different = len(set(counts.tolist()))
    if len(tokens) < fewest or different < 2:
        raise NotMeasured(
            f"{len(tokens)} different tokens with {different} different counts; a rank "
            f"correlation needs {fewest} and 2; give more text"
        )
    found = spearmanr(bias[tokens].double().cpu().numpy(), counts.cpu().numpy())
    return torch.tensor(float(found.statistic), dtype=torch.float64)


def _bias(model: Model) -> Float[Tensor, " d_vocab"]:
    bias = unembedding_bias(intact(model))
    if not bool(bias.any()):
        raise NotApplicable(
            "the unembedding has no bias: neither has the final norm one to fold into it"
        )
    return bias


def _first(
    bias: Float[Tensor, " d_vocab"], k: int, *, largest: bool
) -> tuple[tuple[int, float], ...]:
    values, ids = bias.topk(k, largest=largest)
    return tuple(zip(ids.tolist(), values.tolist(), strict=True))
