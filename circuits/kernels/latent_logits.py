"""What latents write toward the answer, from the weights and with their activations.

Direct attribution of the SAE notebook (seed 003, direction_dla and
activation_scaled_direction_dla): the direct path to the logits only, so for an SAE on an earlier
layer it leaves out all that later layers make of a latent.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.figures import Point, Scatter, TokenMap
from claimlens.circuits.kernels.attribution import FINAL_SCALE
from claimlens.circuits.kernels.bridge import check_direct_mlp, mlp_output_weights, unembedding
from claimlens.circuits.kernels.cache import Model, cache, intact
from claimlens.circuits.kernels.directions import one_position
from claimlens.circuits.kernels.latent_attribution import mlp_site
from claimlens.circuits.kernels.sae import Sae, check_hook, check_latents, latents_at, site
from claimlens.circuits.parts import Position, Prompts
from claimlens.circuits.verdict import NotMeasured

ACTIVE_MEAN = 0.05
"""Mean activation above which a latent is drawn: the bound of seed 003."""


def latent_logits(model: Model, prompts: Prompts, sae: Sae) -> Float[Tensor, "batch latent"]:
    """W_dec (W_out) W_U[answer]: what a unit of each latent adds to the answer's logit
    [logits x final scale / activation].

    Through W_out for an SAE on `mlp.hook_post`, as it is for one on `hook_mlp_out`. The
    vocabulary's mean is taken off, the final scale is not divided by: as in seed 003, comparable
    between the latents of a model, not between models. Raises NotApplicable as `written`.
    """
    if prompts.answer is None:
        raise ValueError(
            "these prompts have no answers; use a prompt set with answers, as `quotes`"
        )
    toward = unembedding(intact(model))[:, prompts.answer]
    return einsum(written(model, sae), toward, "latent d_model, d_model batch -> batch latent")


def latent_effects(
    model: Model, prompts: Prompts, sae: Sae, at: str | Position = "END"
) -> Float[Tensor, "batch latent"]:
    """What each latent adds to the answer's logit as it fires at a position [logits].

    `latent_logits` times the activation at `at`, over the final norm's scale there, frozen. Seed
    003 multiplies by the mean activation and leaves the scale out. Raises NotApplicable as
    `written`.
    """
    rows, index = (
        torch.arange(len(prompts), device=prompts.tokens.device),
        one_position(prompts, at),
    )
    scale = cache(model, prompts, [sae.hook, FINAL_SCALE])[FINAL_SCALE][rows, index]
    found = latents_at(model, prompts, sae, at)[:, 0]
    return found * latent_logits(model, prompts, sae) / scale


def rank_agreement(
    x: Float[Tensor, "batch latent"], y: Float[Tensor, "batch latent"]
) -> Float[Tensor, " batch"]:
    """Spearman's rank correlation over latents, prompt by prompt; ties share their mean rank.

    With `latent_effects` and the loss increases of ablating each: whether the weights put the
    latents of a prompt in the order that ablation does. Raises ValueError for fewer than three
    latents, NotMeasured for a prompt on which one side is the same for all.
    """
    if x.shape != y.shape or x.shape[1] < 3:
        raise ValueError(
            f"ranks of shape {tuple(x.shape)} and {tuple(y.shape)}; expected the same latents on "
            "both sides, three or more"
        )
    a, b = (_ranks(side) for side in (x, y))
    size = (a.square().sum(1) * b.square().sum(1)).sqrt()
    if bool((size == 0).any()):
        raise NotMeasured(
            f"on prompt {int((size == 0).nonzero()[0])} one side is the same for all latents: no "
            "order to compare; leave out latents that do not fire"
        )
    return (a * b).sum(1) / size


def _ranks(x: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
    """Ranks less their mean."""
    below = (x[:, :, None] > x[:, None]).sum(-1)
    tied = (x[:, :, None] == x[:, None]).sum(-1)
    ranks = below.double() + (tied - 1) / 2
    return ranks - ranks.mean(1, keepdim=True)


def written(model: Model, sae: Sae) -> Float[Tensor, "latent d_model"]:
    """What a unit of each latent writes into the residual stream.

    Raises NotApplicable for an SAE that is not on an MLP's neurons or output, and in models that
    normalise an MLP's output once more or cap their logits (Gemma 2): no latent just adds there.
    """
    check_hook(model, sae)
    layer, place = mlp_site(sae)
    check_direct_mlp(intact(model), layer)
    return sae.W_dec @ mlp_output_weights(intact(model), layer) if place == "post" else sae.W_dec


def latent_scatter(
    model: Model,
    prompts: Prompts,
    sae: Sae,
    named: int = 5,
    scaled: bool = False,
    above: float = ACTIVE_MEAN,
    at: str | Position = "END",
) -> Scatter:
    """Attribution against mean activation: a point per latent whose mean is over `above`.

    The `named` ones with the strongest scaled attribution, of either sign, carry their number.
    Raises NotMeasured where no latent is active enough.
    """
    effects = latent_effects(model, prompts, sae, at).mean(0)
    mean = latents_at(model, prompts, sae, at)[:, 0].mean(0)
    drawn = (mean > above).nonzero()[:, 0]
    if not len(drawn):
        raise NotMeasured(
            f"no latent has a mean activation over {above:g} at {at} (highest "
            f"{float(mean.max()):.3g}): nothing to draw"
        )
    x = effects if scaled else latent_logits(model, prompts, sae).mean(0)
    matter = set(drawn[effects[drawn].abs().argsort(descending=True)][:named].tolist())
    points = [
        Point(float(x[i]), float(mean[i]), str(i) if i in matter else "") for i in drawn.tolist()
    ]
    label = "effect on the answer [logits]" if scaled else "attribution to the answer per unit"
    return Scatter(f"Latents of {sae.hook} at {at}", label, "mean activation", points)


def activation_map(
    model: Model,
    prompts: Prompts,
    words: Sequence[Sequence[str]],
    sae: Sae,
    latents: Sequence[int],
) -> TokenMap:
    """The prompts' tokens coloured by the activation of each latent, a frame per latent.

    `words` are the tokens' strings, BOS included, without padding. Every position has its
    activation (seed 003, print_top_examples, which leaves prompts without any out).
    """
    found = sae.encode(site(model, prompts, sae))[..., check_latents(sae, latents)]
    lengths = prompts.lengths.tolist()
    if [len(row) for row in words] != lengths:
        raise ValueError("the words must be those of the prompts: one for each token, no padding")
    frames = {
        f"latent {latent}": [found[i, :n, j].tolist() for i, n in enumerate(lengths)]
        for j, latent in enumerate(check_latents(sae, latents))
    }
    return TokenMap(f"Activation of latents of {sae.hook}", "activation", words, frames)
