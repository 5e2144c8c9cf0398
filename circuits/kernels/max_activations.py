"""Where each latent of an SAE is most active, over a stream of prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.kernels.sae import Sae, site
from claimlens.circuits.kernels.sae_statistics import MAX_ELEMENTS
from claimlens.circuits.kernels.token_mean import counted
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotMeasured


@dataclass(frozen=True)
class Example:
    """Where a latent is most active in one prompt: `tokens[position]` is the token there."""

    activation: float
    prompt: int
    position: int
    tokens: tuple[int, ...]


@dataclass(eq=False)
class MaxActivations:
    """The top prompts of each latent; `prompt` counts from the beginning of the stream.

    Rows beyond the prompts on which a latent fires have activation 0 and prompt -1.
    """

    activation: Float[Tensor, "k latent"]
    prompt: Int[Tensor, "k latent"]
    position: Int[Tensor, "k latent"]
    prompts: int = 0
    rows: dict[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def maximum(self) -> Float[Tensor, " latent"]:
        """The highest activation of each latent; 0 for one that never fires."""
        return self.activation[0]

    @property
    def silent(self) -> tuple[int, ...]:
        """The latents that never fired: they have no examples."""
        return tuple((self.maximum == 0).nonzero()[:, 0].tolist())

    def examples(self, latent: int) -> tuple[Example, ...]:
        """A latent's top prompts, the strongest first; none for a latent that never fires."""
        size = self.activation.shape[1]
        if not 0 <= latent < size:
            raise ValueError(f"the SAE has no latent {latent}: it has {size}, from 0")
        columns = (self.activation, self.prompt, self.position)
        rows = zip(*(column[:, latent].tolist() for column in columns), strict=True)
        return tuple(Example(a, p, q, self.rows[p]) for a, p, q in rows if p >= 0)


def max_activations(
    model: Model, batches: Iterable[Prompts], sae: Sae, k: int = 10
) -> MaxActivations:
    """The `k` prompts that activate each latent most, one token of each: its highest.

    Prompts come in batches, as from a generator: one batch is held at a time, k entries per latent
    and the tokens of the prompts that these name. BOS and padding never count. From the SAE
    notebook (seed 003, get_activations), which keeps every prompt's maximum. Raises ValueError for
    a k below 1, NotMeasured where the stream holds no prompts.
    """
    if k < 1:
        raise ValueError(f"k={k} examples per latent; expected at least 1")
    kept = _nothing(k, sae)
    for prompts in batches:
        for rows in _chunks(prompts, sae):
            part = prompts.select(rows)
            _take(kept, part, *peaks(model, part, sae))
    if not kept.prompts:
        raise NotMeasured("no prompts to look for activations in: the stream is empty")
    return kept


def peaks(
    model: Model, prompts: Prompts, sae: Sae
) -> tuple[Float[Tensor, "batch latent"], Int[Tensor, "batch latent"]]:
    """Each prompt's highest activation of each latent, and the position where it is."""
    found = sae.encode(site(model, prompts, sae))
    found = found * counted(prompts)[..., None]
    best = found.max(dim=1)
    return best.values, best.indices


def _nothing(k: int, sae: Sae) -> MaxActivations:
    return MaxActivations(
        activation=sae.W_enc.new_zeros(k, sae.size),
        prompt=torch.full((k, sae.size), -1, device=sae.W_enc.device),
        position=torch.zeros(k, sae.size, dtype=torch.long, device=sae.W_enc.device),
    )


def _take(
    kept: MaxActivations,
    prompts: Prompts,
    best: Float[Tensor, "batch latent"],
    position: Int[Tensor, "batch latent"],
) -> None:
    """Merge a batch's maxima with those so far.

    Of equal ones the earlier stay, so that 0, which `_nothing` begins with, never gets in.
    """
    number = kept.prompts + torch.arange(len(prompts), device=best.device)
    prompt = number[:, None].expand_as(position)
    values = torch.cat([kept.activation, best])
    order = values.argsort(dim=0, descending=True, stable=True)[: len(kept.activation)]
    kept.activation = values.gather(0, order)
    kept.prompt = torch.cat([kept.prompt, prompt]).gather(0, order)
    kept.position = torch.cat([kept.position, position]).gather(0, order)
    named = set(kept.prompt.flatten().tolist())
    for row, tokens, length in zip(
        number.tolist(), prompts.tokens.tolist(), prompts.lengths.tolist(), strict=True
    ):
        kept.rows[row] = tuple(tokens[:length])
    kept.rows = {row: tokens for row, tokens in kept.rows.items() if row in named}
    kept.prompts += len(prompts)


def _chunks(prompts: Prompts, sae: Sae) -> Iterator[Int[Tensor, " chosen"]]:
    """Rows of as many prompts at a time as keep their latents under the bound."""
    size = max(1, MAX_ELEMENTS // (prompts.tokens.shape[1] * sae.size))
    rows = torch.arange(len(prompts), device=prompts.tokens.device)
    yield from (rows[start : start + size] for start in range(0, len(rows), size))
