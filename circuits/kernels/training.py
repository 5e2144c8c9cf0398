"""Induction in the course of training: its loss, against what guessing costs, and when it falls."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.metrics import loss
from claimlens.circuits.parts import PromptPairs
from claimlens.circuits.verdict import NotMeasured


def seen_guess(pairs: PromptPairs) -> Float[Tensor, " batch"]:
    """What it costs to guess a repeated token among the distinct ones seen so far [nats/token].

    The mean over REPEAT of the log of their number, BOS not counted: ln of the repeated half's
    length on random tokens that are distinct, as ln 384 in the TransformerLens demo (seed 002,
    induction loss). A model below it has used more than which tokens there were.
    """
    start = int(pairs.bos)
    return torch.stack(
        [
            torch.stack([_log_of_distinct(row[start : int(end)]) for end in ends]).mean()
            for row, ends in zip(pairs.clean.tokens, pairs.clean.at("REPEAT"), strict=True)
        ]
    )


def over_seen_guess(model: Model, pairs: PromptPairs) -> Float[Tensor, " batch"]:
    """Loss on the repeated tokens, less that of guessing among those seen [nats/token].

    The induction loss of the demo (`transformer_lens.evals.induction_loss`; it also leaves out the
    second repeated token), against the second of its baselines. The first, a guess among all d
    tokens that could have been drawn, costs ln d.
    """
    return loss(model, pairs.clean, "REPEAT") - seen_guess(pairs)


def steepest_fall(losses: Sequence[Float[Tensor, " batch"]]) -> int:
    """The index of the checkpoint after which the mean loss falls most until the next one.

    Raises NotMeasured for fewer than two checkpoints: nothing lies between them.
    """
    if len(losses) < 2:
        raise NotMeasured(f"{len(losses)} checkpoints: a change over training needs two or more")
    means = torch.stack([values.mean() for values in losses])
    return int((means[:-1] - means[1:]).argmax())


def _log_of_distinct(tokens: Tensor) -> Float[Tensor, ""]:
    count = max(len(set(tokens.tolist())), 1)
    return torch.tensor(float(count), device=tokens.device).log()
