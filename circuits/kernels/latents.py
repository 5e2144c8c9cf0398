"""What a latent does where it is active: ablations one by one and in sets, as a table.

After the ablation table of the SAE notebook (seed 003, get_top_direction_ablation_df and the cells
on sets of directions). All losses here are of the answer after END.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.kernels.directions import one_position
from claimlens.circuits.kernels.latent_sweep import REST, Rest, ablate_each_latent
from claimlens.circuits.kernels.latent_table import LatentEffects
from claimlens.circuits.kernels.sae import (
    Sae,
    ablate_latents,
    check_latents,
    latents_at,
    splice,
)
from claimlens.circuits.metrics import answer_loss
from claimlens.circuits.parts import Position, PromptPairs, Prompts
from claimlens.circuits.verdict import NotMeasured

ACTIVE = 0.1
"""Activation above which a latent counts as active: the threshold of seed 003."""

Score = Callable[[Model, Prompts], Tensor]
"""One value per prompt, higher where the answer is less expected [nats]."""


def activations(
    model: Model,
    prompts: Prompts,
    sae: Sae,
    latents: Sequence[int],
    at: str | Position = "END",
) -> Float[Tensor, "batch latent"]:
    """Activations of these latents at one labelled position, in the order given.

    Raises ValueError for a label that stands for several positions.
    """
    chosen = check_latents(sae, latents)
    return _latents(model, prompts, sae, at)[:, chosen]


def active_prompts(
    model: Model,
    pairs: PromptPairs,
    sae: Sae,
    latent: int,
    at: str | Position = "END",
    above: float = ACTIVE,
) -> PromptPairs:
    """The prompts on which a latent is above `above` at a position.

    Raises NotMeasured where it is so on none: an empty set is no evidence.
    """
    found = activations(model, pairs.clean, sae, [latent], at)[:, 0]
    rows = (found > above).nonzero()[:, 0].tolist()
    if not rows:
        raise NotMeasured(
            f"latent {latent} is above {above:g} at {at} in none of the {len(pairs)} prompts "
            f"(highest activation {float(found.max()):.3g}); choose a latent that fires here"
        )
    return pairs.select(rows)


def most_active(
    model: Model, prompts: Prompts, sae: Sae, k: int, at: str | Position = "END"
) -> tuple[int, ...]:
    """The `k` latents with the highest mean activation at a labelled position, highest first.

    Choose on other prompts than those a claim tests (`halves`). Raises ValueError where the SAE
    has fewer than `k` latents, NotMeasured where fewer fire.
    """
    if not 0 < k <= sae.size:
        raise ValueError(f"k={k} latents of an SAE that has {sae.size}; expected 1 to all")
    mean, order = _latents(model, prompts, sae, at).mean(0).topk(k)
    fire = int((mean > 0).sum())
    if fire < k:
        raise NotMeasured(f"only {fire} latents fire at {at} of these prompts; {k} were asked for")
    return tuple(order.tolist())


def halves(pairs: PromptPairs) -> tuple[PromptPairs, PromptPairs]:
    """Two halves with different prompts: one to choose latents on, one to test them on.

    The prompts of each template are dealt out in turn, so that both halves have all templates of
    two prompts or more. Raises ValueError for a single prompt.
    """
    if len(pairs) < 2:
        raise ValueError(f"prompt set {pairs.name!r} has one prompt: no second half; draw more")
    order = sorted(range(len(pairs)), key=lambda row: pairs.templates.index(pairs.templates[row]))
    return pairs.select(sorted(order[::2])), pairs.select(sorted(order[1::2]))


def loss_increase(
    model: Model,
    prompts: Prompts,
    sae: Sae,
    latents: Sequence[int],
    at: str | Position = "END",
    rest: Rest = "raw",
    score: Score = answer_loss,
) -> Float[Tensor, " batch"]:
    """How much the answer's loss rises when these latents are ablated together [nats].

    `raw`: what they decode to is subtracted, against the model as it is. `encoded`: the
    reconstruction without them, against the whole reconstruction at the same position, so that
    the reconstruction's error is on both sides. Exactly 0 where none of them fires. `score` is
    what rises: `odds_against` in place of the loss where the model is sure of the answer.
    """
    baseline = model if rest == "raw" else splice(model, sae, at)
    without = ablate_latents(model, sae, latents, at, rest)
    return score(without, prompts) - score(baseline, prompts)


def ablate_each(
    model: Model,
    pairs: PromptPairs,
    sae: Sae,
    sets: Sequence[int | Sequence[int]],
    at: str | Position = "END",
    above: float = ACTIVE,
) -> LatentEffects:
    """Ablate each latent, or set of latents, on its own: everything the table needs.

    The activation of a set is that of its strongest member. Raises ValueError where nothing is
    given to ablate.
    """
    chosen = tuple((s,) if isinstance(s, int) else tuple(s) for s in sets)
    if not chosen:
        raise ValueError("no latents given; take those of `most_active`")
    p = pairs.clean
    found = _latents(model, p, sae, at)
    strongest = [found[:, check_latents(sae, s)].amax(1) for s in chosen]
    increase = {
        rest: ablate_each_latent(model, p, sae, chosen, at, rest, answer_loss).change.T
        for rest in REST
    }
    return LatentEffects(
        sets=chosen,
        ids=pairs.ids,
        texts=pairs.texts,
        activation=torch.stack(strongest, 1),
        raw=increase["raw"],
        encoded=increase["encoded"],
        above=above,
    )


def _latents(
    model: Model, prompts: Prompts, sae: Sae, at: str | Position
) -> Float[Tensor, "batch latent"]:
    one_position(prompts, at)  # refuses a label that stands for several
    return latents_at(model, prompts, sae, at)[:, 0]
