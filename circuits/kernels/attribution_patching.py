"""Attribution patching: gradients guess the effect of every patch, to choose which to measure.

A first-order guess is wrong where the network bends (saturated attention, LayerNorm), so a
`Screening` never shows a guess alone: what ranks first is patched, and stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.ablate import resample_ablate
from claimlens.circuits.kernels.bridge import all_heads
from claimlens.circuits.kernels.cache import Edited, Model, cache, differentiable, intact
from claimlens.circuits.kernels.memory import Cache
from claimlens.circuits.metrics import answer_tokens, logit_diff
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotMeasured

ROWS = 32
"""Prompts whose graph is held in memory at once."""

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Screening(Generic[Item]):
    """Guessed effects of all items, and the exact effects of those that rank first [logits].

    `top` are places in `items`, by the size of the mean guess, largest first; `exact` has a column
    for each of them.
    """

    items: tuple[Item, ...]
    approx: Float[Tensor, "batch item"]
    top: tuple[int, ...]
    exact: Float[Tensor, "batch k"]

    @property
    def first(self) -> tuple[Item, ...]:
        """The items that rank first."""
        return tuple(self.items[place] for place in self.top)

    @property
    def approx_of_first(self) -> Float[Tensor, "batch k"]:
        """The guesses for the items that rank first, beside `exact`."""
        return self.approx[:, list(self.top)]

    def rows(self) -> list[tuple[str, float, float]]:
        """Of each item that ranks first: its name, the mean guess, the mean exact effect."""
        guessed, exact = self.approx_of_first.mean(0).tolist(), self.exact.mean(0).tolist()
        return [(str(i), a, e) for i, a, e in zip(self.first, guessed, exact, strict=True)]


def attribution_patching(
    model: Model, prompts: Prompts, source: Prompts
) -> Float[Tensor, "batch layer head"]:
    """First-order effect on the logit difference of giving a head its z of `source` [logits].

    (z of source - z) times the gradient of the logit difference at z, summed over positions: all
    heads from two forwards and one backward (Nanda 2023, attribution patching; Syed et al. 2023,
    arXiv:2310.10348). Raises NotMeasured where no gradient reaches a head.
    """
    _check_lengths(prompts, source)
    names = [f"blocks.{n}.attn.hook_z" for n in range(int(intact(model).cfg.n_layers))]
    effects = []
    for part, other in chunks(model, prompts, source):
        run, theirs = differentiable(model, part, names), cache(model, other, names)
        slopes = torch.autograd.grad(end_logit_diff(run, part).sum(), [run[n] for n in names])
        by_layer = [
            einsum(theirs[name] - run[name].detach(), slope, "b p h d, b p h d -> b h")
            for name, slope in zip(names, slopes, strict=True)
        ]
        effects.append(torch.stack(by_layer, 1))
    return torch.cat(effects)


def screen_heads(model: Model, prompts: Prompts, source: Prompts, k: int) -> Screening[Head]:
    """`attribution_patching` of all heads, and the exact effect of the first `k` of them.

    Exact: the logit difference with the head's z from `source` minus the clean one (activation
    patching of z at all positions). Costs `k` more forwards.
    """
    approx = rearrange(attribution_patching(model, prompts, source), "b layer h -> b (layer h)")
    clean = logit_diff(model, prompts)

    def exact(head: Head) -> Float[Tensor, " batch"]:
        return logit_diff(resample_ablate(model, head, source), prompts) - clean

    return screened(all_heads(intact(model)), approx, k, exact)


def screened(
    items: Sequence[Item],
    approx: Float[Tensor, "batch item"],
    k: int,
    exact: Callable[[Item], Float[Tensor, " batch"]],
) -> Screening[Item]:
    """Rank `items` by the size of their mean guess, and measure the first `k` exactly.

    Raises ValueError where k is not between 1 and the number of items, NotMeasured for a guess that
    is not finite.
    """
    if not 1 <= k <= len(items):
        raise ValueError(f"k={k}: expected at least 1 and at most the {len(items)} items there are")
    if not bool(torch.isfinite(approx).all()):
        raise NotMeasured("a guessed effect is not finite; check the model's weights and dtype")
    top = tuple(approx.mean(0).abs().topk(k).indices.tolist())
    measured = torch.stack([exact(items[place]) for place in top], 1)
    return Screening(tuple(items), approx, top, measured)


def end_logit_diff(run: Cache, prompts: Prompts) -> Float[Tensor, " batch"]:
    """`logit_diff` of a run, differentiable."""
    answer, wrong = answer_tokens(prompts)
    logits = run.logits_at(prompts.at("END"))[:, 0]
    rows = torch.arange(len(prompts), device=logits.device)
    return logits[rows, answer] - logits[rows, wrong]


def chunks(
    model: Model, prompts: Prompts, source: Prompts, size: int = ROWS
) -> Iterator[tuple[Prompts, Prompts]]:
    """Both sides in pieces of at most `size` rows; in one where the model has edits of its rows."""
    step = len(prompts) if isinstance(model, Edited) else size
    numbers = torch.arange(len(prompts), device=prompts.tokens.device)
    for rows in torch.split(numbers, step):
        if len(rows) == len(prompts):
            yield prompts, source
        else:
            yield prompts.select(rows), source.select(rows)


def _check_lengths(prompts: Prompts, source: Prompts) -> None:
    if not torch.equal(prompts.lengths, source.lengths):
        raise ValueError(
            f"clean and source prompts differ in length (rows: {len(prompts)} and {len(source)}): "
            "their positions don't correspond; take both from the same pairs"
        )
