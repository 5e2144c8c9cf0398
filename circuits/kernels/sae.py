"""Sparse autoencoders: encode, decode, and put the reconstruction in the activation's place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.cache import Edit, Edited, Model, cache, edited
from claimlens.circuits.parts import Prompts

Architecture = Literal["standard", "topk", "jumprelu", "gated"]


@dataclass(frozen=True, eq=False)
class Sae:
    """The weights of one sparse autoencoder and the hook it reads and writes.

    Architectures as sae_lens stores them: standard (ReLU), topk (Gao et al. 2024), jumprelu
    (Rajamanoharan et al. 2024b) and gated (2024a).
    """

    hook: str
    architecture: Architecture
    W_enc: Float[Tensor, "d_in latent"]
    W_dec: Float[Tensor, "latent d_in"]
    b_dec: Float[Tensor, " d_in"]
    b_enc: Float[Tensor, " latent"] | None = None
    k: int | None = None
    threshold: Float[Tensor, " latent"] | None = None
    b_gate: Float[Tensor, " latent"] | None = None
    b_mag: Float[Tensor, " latent"] | None = None
    r_mag: Float[Tensor, " latent"] | None = None
    apply_b_dec_to_input: bool = True

    def encode(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch latent"]:
        """Latent activations."""
        centred = x - self.b_dec if self.apply_b_dec_to_input else x
        inner = einsum(centred, self.W_enc, "... d_in, d_in latent -> ... latent")
        if self.architecture == "gated":
            return self._gated(inner)
        pre = inner + _given(self.b_enc, "b_enc")
        if self.architecture == "topk":
            values, index = pre.topk(self._k(), dim=-1)
            return torch.zeros_like(pre).scatter(-1, index, values.relu())
        if self.architecture == "jumprelu":
            return pre.relu() * (pre > _given(self.threshold, "threshold"))
        return pre.relu()

    def decode(self, latents: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch d_in"]:
        """The reconstruction."""
        return einsum(latents, self.W_dec, "... latent, latent d_in -> ... d_in") + self.b_dec

    def _gated(self, inner: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        gate = (inner + _given(self.b_gate, "b_gate")) > 0
        magnitude = inner * _given(self.r_mag, "r_mag").exp() + _given(self.b_mag, "b_mag")
        return gate * magnitude.relu()

    def _k(self) -> int:
        if self.k is None:
            raise ValueError("a topk SAE needs k; its cfg.json must say it")
        return self.k


def splice(model: Model, sae: Sae) -> Edited:
    """The model with the SAE's reconstruction in the place of the activation."""
    edit = Edit(
        sae.hook,
        lambda x: sae.decode(sae.encode(x)),
        "SAE reconstruction",
        key=("sae", id(sae)),
        holds=sae,
    )
    return edited(model, edit)


def ablate_site(model: Model, sae: Sae, over: Prompts | None = None) -> Edited:
    """The model with the SAE's site set to zero, or to its mean over the tokens of `over`."""
    if over is None:
        return edited(model, Edit(sae.hook, torch.zeros_like, "zero ablation of the SAE's site"))
    mean = _tokens(cache(model, over, [sae.hook])[sae.hook], over).mean(0)
    return edited(
        model,
        Edit(sae.hook, lambda x: mean.expand_as(x).clone(), "mean ablation of the SAE's site"),
    )


def l0(model: Model, prompts: Prompts, sae: Sae) -> Float[Tensor, " batch"]:
    """Mean number of active latents per token [latents]; BOS is left out."""
    active = (sae.encode(cache(model, prompts, [sae.hook])[sae.hook]) > 0).sum(-1).float()
    return _token_mean(active, prompts)


def residual_variance(
    model: Model, prompts: Prompts, sae: Sae
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Squared error of the reconstruction and squared distance from the mean, per prompt.

    Explained variance is 1 - mean of the first / mean of the second.
    """
    x = cache(model, prompts, [sae.hook])[sae.hook]
    error = (x - sae.decode(sae.encode(x))).square().sum(-1)
    spread = (x - _tokens(x, prompts).mean(0)).square().sum(-1)
    return _token_mean(error, prompts), _token_mean(spread, prompts)


def _inside(prompts: Prompts) -> Float[Tensor, "batch pos"]:
    index = torch.arange(prompts.tokens.shape[1], device=prompts.tokens.device)
    return ((index > 0) & (index < prompts.lengths[:, None])).float()


def _tokens(x: Float[Tensor, "batch pos d"], prompts: Prompts) -> Float[Tensor, "token d"]:
    return x[_inside(prompts).bool()]


def _token_mean(x: Float[Tensor, "batch pos"], prompts: Prompts) -> Float[Tensor, " batch"]:
    inside = _inside(prompts)
    return (x * inside).sum(1) / inside.sum(1)


def _given(weight: Tensor | None, name: str) -> Tensor:
    if weight is None:
        raise ValueError(
            f"this SAE's architecture needs the weight {name}; the checkpoint lacks it"
        )
    return weight
