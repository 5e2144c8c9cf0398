"""What an SAE keeps of the model's answer: its reconstruction, its error, its loss, its latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.figures import Bar, Bars
from claimlens.circuits.kernels.bridge import (
    check_direct,
    mlp_output_bias,
    mlp_output_weights,
    unembedding,
)
from claimlens.circuits.kernels.cache import Model, intact
from claimlens.circuits.kernels.decomposition import answers_of, direct_effect
from claimlens.circuits.kernels.directions import one_position
from claimlens.circuits.kernels.latent_attribution import Parts, mlp_site
from claimlens.circuits.kernels.next_tokens import standing
from claimlens.circuits.kernels.sae import Place, Sae, ablate_latents, ablate_site, site, splice
from claimlens.circuits.metrics import answer_loss
from claimlens.circuits.parts import Head, Position, Prompts
from claimlens.circuits.verdict import Measurement


def split_mlp(model: Model, prompts: Prompts, sae: Sae, at: str | Position = "END") -> Parts:
    """The MLP's direct effect on the answer's logit, as "reconstruction" and "error" [logits].

    Both over the final norm's frozen scale; the error is the MLP's output less the reconstruction,
    so that `total` is what the whole MLP adds (`decompose(…).of("MLP4")`). For an SAE on the
    neurons (`mlp.hook_post`) both are read through W_out, and b_out, which the SAE does not see,
    counts with the reconstruction. The remainder of the SAE notebook (seed 003), there without
    b_out. Raises NotApplicable for an SAE that is not on an MLP.
    """
    layer, _ = mlp_site(sae)
    check_direct(intact(model), Head(layer, 0))
    rows = torch.arange(len(prompts), device=prompts.tokens.device)
    x = site(model, prompts, sae)[rows, one_position(prompts, at)]
    kept = sae.decode(sae.encode(x))
    written = torch.stack(
        [_through(model, sae, kept, bias=True), _through(model, sae, x - kept)], 1
    )
    toward = unembedding(intact(model)).T[answers_of(prompts)]
    effects = direct_effect(model, prompts, written, toward, at)
    return Parts(("reconstruction", "error"), effects)


def conditions(
    model: Model, sae: Sae, latents: Sequence[int], over: Prompts, at: Place = "END"
) -> dict[str, Model]:
    """The models whose losses say what the SAE recovers, by name; for any metric.

    "original"; the site under "zero ablation" and "mean ablation" (its mean over the tokens of
    `over`); "latents ablated", the rest raw; "reconstruction". At one labelled position, or with
    None at all. Loss recovered is (ablated - reconstruction) / (ablated - original); the five bars
    of the SAE notebook (seed 003), which takes the mean per prompt before the mean over prompts.
    """
    return {
        "original": model,
        "mean ablation": ablate_site(model, sae, over, at),
        "zero ablation": ablate_site(model, sae, at=at),
        "latents ablated": ablate_latents(model, sae, latents, at),
        "reconstruction": splice(model, sae, at),
    }


@dataclass(frozen=True, eq=False)
class AnswerChange:
    """What an edit takes from the answer after END, intact less edited, prompt by prompt.

    Positive where the edit lowers it; for `rank`, where the answer's place gets better without.
    """

    log_prob: Float[Tensor, " batch"]  # [nats]
    logit: Float[Tensor, " batch"]  # over the vocabulary's mean [logits]
    rank: Float[Tensor, " batch"]  # tokens above the answer, intact less edited [places]


def answer_change(model: Model, without: Model, prompts: Prompts) -> AnswerChange:
    """Log probability, logit and rank of the answer, in `model` less in `without`.

    `without` is an edited model: `ablate_latents(…)`, and as the baseline the whole site at its
    mean, `ablate_site(…, over)`. From the SAE notebook (seed 003, eval_ablation_token_rank).
    """
    answers_of(prompts)
    before, after = standing(model, prompts), standing(without, prompts)
    return AnswerChange(
        log_prob=answer_loss(without, prompts) - answer_loss(model, prompts),
        logit=before.logit - after.logit,
        rank=(before.rank - after.rank).to(before.logit.dtype),
    )


def interval_bars(title: str, y_label: str, measured: Mapping[str, Measurement]) -> Bars:
    """Measurements side by side, with their intervals."""
    bars = []
    for name, measurement in measured.items():
        found = measurement.interval()
        bars.append(Bar(name, found.value, found.low, found.high))
    return Bars(title, y_label, bars)


def _through(
    model: Model, sae: Sae, x: Float[Tensor, "batch d_in"], bias: bool = False
) -> Float[Tensor, "batch d_model"]:
    """What an activation at the SAE's site is in the residual stream."""
    layer, place = mlp_site(sae)
    if place == "out":
        return x
    written = x @ mlp_output_weights(intact(model), layer)
    return written + mlp_output_bias(intact(model), layer) if bias else written
