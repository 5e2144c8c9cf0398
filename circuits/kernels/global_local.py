"""Ablating a latent everywhere against at one position, where it is most active.

After the last ablations of the SAE notebook (seed 003, evaluate_direction_ablation_single_prompt
on max activating prompts). Its two figures differ in what they average over: the global one over
all tokens of a prompt, most of which the latent does not touch, the local one over the tokens
where it is active. `GlobalLocal` holds both, and the global run read at the active tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from claimlens.circuits.figures import Histogram
from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.kernels.max_activations import max_activations
from claimlens.circuits.kernels.sae import Sae, ablate_latents, check_latents, site
from claimlens.circuits.metrics import token_nats
from claimlens.circuits.parts import PromptPairs, Prompts
from claimlens.circuits.verdict import NotMeasured

SHARE = 0.1
"""A position counts as active over this share of the latent's maximum: as in seed 003."""
TOKENS = 2**13
"""Tokens of one forward pass over one-position ablations."""


@dataclass(frozen=True, eq=False)
class GlobalLocal:
    """Loss increases by ablating one latent on the prompts that activate it most.

    Row i of `at_one` is the prediction made at position `position[i]` of prompt `row[i]` when the
    latent is ablated there alone; of `at_all`, the same prediction when it is ablated everywhere.
    """

    latent: int
    pairs: PromptPairs
    maximum: float
    row: Int[Tensor, " active"]
    position: Int[Tensor, " active"]
    per_token: Float[Tensor, " batch"]  # global, over all predicted tokens [nats/token]
    at_all: Float[Tensor, " active"]  # global, at the active positions [nats]
    at_one: Float[Tensor, " active"]  # local [nats]

    @property
    def everywhere(self) -> Float[Tensor, " batch"]:
        """The global run's loss increase at the active positions, mean per prompt [nats]."""
        return self._by_prompt(self.at_all)

    @property
    def one_at_a_time(self) -> Float[Tensor, " batch"]:
        """The local loss increase, mean over each prompt's active positions [nats]."""
        return self._by_prompt(self.at_one)

    def histogram(self, bins: int = 20) -> Histogram:
        """The local loss increases, one per active position."""
        title = f"Loss increase without latent {self.latent}, one position at a time"
        return Histogram(title, "loss increase [nats]", self.at_one.tolist(), bins)

    def _by_prompt(self, values: Float[Tensor, " active"]) -> Float[Tensor, " batch"]:
        size = len(self.pairs)
        total = values.new_zeros(size).index_add(0, self.row, values)
        return total / torch.bincount(self.row, minlength=size)


def global_and_local(
    model: Model,
    pairs: PromptPairs,
    sae: Sae,
    latent: int,
    k: int = 100,
    share: float = SHARE,
) -> GlobalLocal:
    """Ablate `latent` everywhere and at one active position at a time, on its `k` top prompts.

    Choose the latent on other prompts (`peak_latents`, `most_active`, with `halves`).

    Active: over `share` of the latent's maximum over all of `pairs`. BOS, padding and the last
    token of each prompt are left out, the last because nothing is predicted after it; a prompt is
    ranked by its maximum over the rest. Prompts with no active position are never taken, so there
    may be fewer than `k`. Raises NotMeasured for a latent that fires nowhere, ValueError for a `k`
    below 1 or larger than the set.
    """
    if not 0 < k <= len(pairs):
        raise ValueError(f"k={k} of {len(pairs)} prompts; expected 1 to all of them")
    (latent,) = check_latents(sae, [latent])
    found = sae.encode(site(model, pairs.clean, sae))[..., latent] * _predicting(pairs.clean)
    maximum, rows = _top(found, k, share, f"latent {latent}", pairs)
    chosen = pairs.select(rows.tolist())
    row, position = (found[rows] > share * maximum).nonzero(as_tuple=True)
    p = chosen.clean
    clean = token_nats(model, p)
    risen = token_nats(ablate_latents(model, sae, [latent]), p) - clean
    inside = _predicting(p, bos=True)[:, :-1]
    return GlobalLocal(
        latent,
        chosen,
        maximum,
        row,
        position,
        per_token=(risen * inside).sum(1) / inside.sum(1),
        at_all=risen[row, position],
        at_one=_one_at_a_time(model, p, sae, latent, row, position) - clean[row, position],
    )


def _top(
    found: Float[Tensor, "batch pos"], k: int, share: float, name: str, pairs: PromptPairs
) -> tuple[float, Int[Tensor, " top"]]:
    """The latent's maximum, and the `k` prompts with the highest, of those that have a share."""
    highest = found.amax(1)
    maximum = float(highest.max())
    if maximum <= 0:
        raise NotMeasured(
            f"{name} fires nowhere in the {len(pairs)} prompts {pairs.name!r} (before the last "
            "token): choose a latent or a text where it fires"
        )
    order = highest.argsort(descending=True, stable=True)[:k]
    return maximum, order[highest[order] > share * maximum]


def peak_latents(model: Model, prompts: Prompts, sae: Sae, k: int) -> tuple[int, ...]:
    """The `k` latents with the highest single activation, highest first; BOS and padding left out.

    Raises ValueError for a `k` below 1 or above the number of latents, NotMeasured where fewer
    fire.
    """
    if not 0 < k <= sae.size:
        raise ValueError(f"k={k} latents of an SAE that has {sae.size}; expected 1 to all")
    highest, order = max_activations(model, [prompts], sae, k=1).maximum.topk(k)
    if float(highest[-1]) <= 0:
        raise NotMeasured(f"only {int((highest > 0).sum())} latents fire; {k} were asked for")
    return tuple(order.tolist())


def _one_at_a_time(
    model: Model,
    prompts: Prompts,
    sae: Sae,
    latent: int,
    row: Int[Tensor, " active"],
    position: Int[Tensor, " active"],
) -> Float[Tensor, " active"]:
    """Each prompt once for each of its active positions, ablated there, in bounded batches."""
    without = ablate_latents(model, sae, [latent], at="HERE")
    size = max(1, TOKENS // prompts.tokens.shape[1])
    losses = []
    for start in range(0, len(row), size):
        here = position[start : start + size]
        stacked = prompts.select(row[start : start + size])
        labels = {**stacked.positions, "HERE": here[:, None]}
        stacked = replace(stacked, positions=labels, moved=None)
        index = torch.arange(len(here), device=here.device)
        losses.append(token_nats(without, stacked)[index, here])
    return torch.cat(losses)


def _predicting(prompts: Prompts, bos: bool = False) -> Bool[Tensor, "batch pos"]:
    """The positions after which a token of the prompt follows; BOS only if asked for."""
    index = torch.arange(prompts.tokens.shape[1], device=prompts.tokens.device)
    return (index >= (0 if bos else 1)) & (index < prompts.lengths[:, None] - 1)
