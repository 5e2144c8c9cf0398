"""What an SAE's latents do over a data set: sparsity, explained variance, density, dead latents.

Prompts are streamed in batches; what is held is one batch and a few numbers per latent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.figures import Histogram
from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.kernels.sae import Sae, site
from claimlens.circuits.kernels.token_mean import counted
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotMeasured

MAX_ELEMENTS = 2**24
"""Latent activations held at a time: 64 MiB in float32, a few times over."""


@dataclass(frozen=True, eq=False)
class SaeStatistics:
    """Sums over tokens; BOS and padding are left out. All properties are finite."""

    tokens: int
    fired: Int[Tensor, " latent"]  # tokens at which it is active
    activation: Float[Tensor, " latent"]  # summed over tokens
    error: float  # squared error of the reconstruction, summed over tokens
    spread: float  # squared distance from the mean activation, summed over tokens

    @property
    def l0(self) -> float:
        """Active latents per token [latents]."""
        return float(self.fired.sum()) / self.tokens

    @property
    def explained_variance(self) -> float:
        """1 - squared error / squared distance from the mean [fraction]."""
        if self.spread <= 0:
            raise NotMeasured("the activation is the same at every token: no variance to explain")
        return 1 - self.error / self.spread

    @property
    def density(self) -> Float[Tensor, " latent"]:
        """Share of tokens at which each latent is active [fraction]; 0 for a dead one."""
        return self.fired.double() / self.tokens

    @property
    def dead(self) -> tuple[int, ...]:
        """The latents that never fired: more data can only make them fewer."""
        return tuple((self.fired == 0).nonzero()[:, 0].tolist())

    @property
    def dead_share(self) -> float:
        """Dead latents among all [fraction]."""
        return len(self.dead) / len(self.fired)

    @property
    def mean_when_active(self) -> Float[Tensor, " latent"]:
        """Mean activation over the tokens at which a latent is active; 0 for a dead one."""
        return self.activation / self.fired.clamp(min=1)

    def density_histogram(self, bins: int = 20) -> Histogram:
        """The latents that fire, by the decimal logarithm of their density; dead ones are named in
        the title."""
        living = self.density[self.fired > 0]
        if not len(living):
            raise NotMeasured("no latent fired on any token: there is no density to draw")
        title = f"Density of {len(living)} latents over {self.tokens} tokens; {len(self.dead)} dead"
        return Histogram(title, "log10 of the share of tokens", living.log10().tolist(), bins)


def sae_statistics(model: Model, batches: Iterable[Prompts], sae: Sae) -> SaeStatistics:
    """Sparsity, explained variance and density of an SAE over a stream of prompts.

    One forward pass per batch. Raises NotMeasured where the stream holds no token.
    """
    fired = torch.zeros(sae.size, dtype=torch.long)
    activation = torch.zeros(sae.size, dtype=torch.float64)
    moments, error = _Moments(), 0.0
    for x in tokens_of(model, batches, sae):
        found = sae.encode(x)
        fired += (found > 0).sum(0).cpu()
        activation += found.sum(0).double().cpu()
        error += float((x - sae.decode(found)).square().sum(-1).double().sum())
        moments.add(x.double())
    if not moments.count:
        raise NotMeasured("no tokens to measure the SAE on: the stream of prompts is empty")
    return SaeStatistics(moments.count, fired, activation, error, moments.spread)


def tokens_of(
    model: Model, batches: Iterable[Prompts], sae: Sae
) -> Iterator[Float[Tensor, "token d_in"]]:
    """The SAE's site at every token but BOS and padding, as many at a time as the bound allows."""
    size = max(1, MAX_ELEMENTS // sae.size)
    for prompts in batches:
        found = site(model, prompts, sae)[counted(prompts)]
        yield from (found[start : start + size] for start in range(0, len(found), size))


class _Moments:
    """Sum of squared distances from the mean, merged batch by batch (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.spread = 0.0
        self._mean: Tensor | float = 0.0

    def add(self, x: Float[Tensor, "token d_in"]) -> None:
        """Take in some more tokens."""
        if not len(x):
            return
        mean, total = x.mean(0), self.count + len(x)
        step = mean - self._mean
        between = float(step.square().sum()) if self.count else 0.0
        self.spread += float((x - mean).square().sum()) + between * self.count * len(x) / total
        self._mean = self._mean + step * (len(x) / total)
        self.count = total
