"""Sparse autoencoders: encode, decode, and put the reconstruction in the activation's place."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from claimlens.circuits.kernels.bridge import hook_names
from claimlens.circuits.kernels.cache import Edit, Edited, Model, cache, edit_keys, edited, intact
from claimlens.circuits.kernels.token_mean import check_counted, counted
from claimlens.circuits.parts import Position, Prompts
from claimlens.circuits.verdict import NotMeasured

Architecture = Literal["standard", "topk", "jumprelu", "gated"]
Place = str | Position | None
"""A labelled position; None for every position."""
_DIMENSIONS = {
    "hook_post": "d_mlp",
    "hook_mlp_out": "d_model",
    "hook_attn_out": "d_model",
    "hook_resid_pre": "d_model",
    "hook_resid_post": "d_model",
}


@dataclass(frozen=True, eq=False)
class Sae:
    """The weights of one sparse autoencoder and the hook it reads and writes.

    Architectures as sae_lens stores them: standard (ReLU), topk (Gao et al. 2024), jumprelu
    (Rajamanoharan et al. 2024b) and gated (2024a). Raises ValueError for a k over the latents.
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

    def __post_init__(self) -> None:
        if self.k is not None and not 0 < self.k <= self.size:
            raise ValueError(f"a topk SAE of {self.size} latents has k={self.k}; expected 1 to all")

    @property
    def width(self) -> int:
        """Dimensions of the activation it reads."""
        return int(self.W_enc.shape[0])

    @property
    def size(self) -> int:
        """How many latents it has."""
        return int(self.W_enc.shape[1])

    def to(self, dtype: torch.dtype) -> Sae:
        """The same SAE with every weight in `dtype`."""
        given: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        weights = {n: w.to(dtype) for n, w in given.items() if isinstance(w, Tensor)}
        return Sae(**{**given, **weights})

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


def site(model: Model, prompts: Prompts, sae: Sae) -> Float[Tensor, "batch pos d_in"]:
    """The activation that the SAE reads; raises NotMeasured where it does not fit the model."""
    check_hook(model, sae)
    return _fitting(sae, cache(model, prompts, [sae.hook])[sae.hook])


def latents_at(
    model: Model, prompts: Prompts, sae: Sae, at: str | Position = "END"
) -> Float[Tensor, "batch slot latent"]:
    """Latent activations at a labelled position."""
    rows = torch.arange(len(prompts), device=prompts.tokens.device)[:, None]
    return sae.encode(site(model, prompts, sae)[rows, prompts.at(at)])


def active(
    model: Model,
    prompts: Prompts,
    sae: Sae,
    latents: Sequence[int],
    at: str | Position = "END",
    threshold: float = 0.0,
) -> Bool[Tensor, " batch"]:
    """Whether any of `latents` is above `threshold` at a labelled position, prompt by prompt.

    Where it is False, ablating these latents there changes nothing.
    """
    chosen = check_latents(sae, latents)
    return (latents_at(model, prompts, sae, at)[..., chosen] > threshold).flatten(1).any(1)


def splice(model: Model, sae: Sae, at: Place = None) -> Edited:
    """The model with the SAE's reconstruction in the place of the activation.

    At every position (BOS too), or at one labelled position of the prompts it is run on.
    """
    return _edited(model, sae, lambda x: sae.decode(sae.encode(x)), "SAE reconstruction", at)


def ablate_site(model: Model, sae: Sae, over: Prompts | None = None, at: Place = None) -> Edited:
    """The model with the SAE's site set to zero, or to its mean over the tokens of `over`.

    The mean leaves BOS and padding out. At every position, or at one labelled position. Raises
    NotMeasured where `over` holds no token.
    """
    if over is None:
        return _edited(model, sae, torch.zeros_like, "zero ablation of the SAE's site", at)
    here = check_counted(over)
    mean = site(model, over, sae)[here].mean(0)
    what = "mean ablation of the SAE's site"
    return _edited(model, sae, lambda x: mean.expand_as(x).clone(), what, at, over)


def ablate_latents(
    model: Model,
    sae: Sae,
    latents: Sequence[int],
    at: Place = None,
    rest: Literal["raw", "encoded"] = "raw",
) -> Edited:
    """The model without some latents, at every position or at one labelled position.

    `raw` subtracts what they decode to from the activation and leaves the rest as it is, error
    included; `encoded` puts the reconstruction without them in its place. Latents that are
    inactive there leave a raw activation as it was: a declared no-op, which `active` reports
    prompt by prompt. The two columns of the ablation table of the SAE notebook (seed 003,
    get_top_direction_ablation_df). Raises ValueError for no latents or latents it lacks.
    """
    chosen = check_latents(sae, latents)

    def without(x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_in"]:
        found = sae.encode(x)
        if rest == "encoded":
            return sae.decode(found.index_fill(-1, torch.tensor(chosen, device=x.device), 0.0))
        return x - einsum(
            found[..., chosen], sae.W_dec[chosen], "... latent, latent d_in -> ... d_in"
        )

    named = ", ".join(map(str, chosen))
    what = f"ablation of latents {named}, the rest {rest}"
    return _edited(model, sae, without, what, at, noop=rest == "raw")


def l0(model: Model, prompts: Prompts, sae: Sae) -> Float[Tensor, " batch"]:
    """Mean number of active latents per token [latents]; BOS is left out."""
    found = (sae.encode(site(model, prompts, sae)) > 0).sum(-1).float()
    return _token_mean(found, prompts)


def residual_variance(
    model: Model, prompts: Prompts, sae: Sae
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Squared error of the reconstruction and squared distance from the mean, per prompt.

    Explained variance is 1 - mean of the first / mean of the second.
    """
    x = site(model, prompts, sae)
    error = (x - sae.decode(sae.encode(x))).square().sum(-1)
    spread = (x - x[check_counted(prompts)].mean(0)).square().sum(-1)
    return _token_mean(error, prompts), _token_mean(spread, prompts)


def check_hook(model: Model, sae: Sae) -> None:
    """Raise NotMeasured where the model lacks the hook that the SAE reads."""
    known = hook_names(intact(model))
    if sae.hook not in known:
        near = ", ".join(difflib.get_close_matches(sae.hook, known, 3))
        raise NotMeasured(
            f"the SAE reads {sae.hook!r}, which this model lacks; near names: {near}. "
            "Take the SAE that was trained on this model"
        )


def check_fits(model: Model, sae: Sae) -> None:
    """Raise NotMeasured where the model lacks the SAE's hook, or has another width there."""
    check_hook(model, sae)
    dimension = _DIMENSIONS.get(sae.hook.split(".")[-1])
    if dimension is not None:
        _check_width(sae, int(getattr(intact(model).cfg, dimension)))


def check_latents(sae: Sae, latents: Sequence[int]) -> list[int]:
    """These latents as a list; raises ValueError for none, or for one that the SAE lacks."""
    chosen = [int(latent) for latent in latents]
    if not chosen:
        raise ValueError("no latents given; to ablate none, use the model itself")
    for latent in chosen:
        if not 0 <= latent < sae.size:
            raise ValueError(f"the SAE has no latent {latent}: it has {sae.size}, from 0")
    return list(dict.fromkeys(chosen))


def _fitting(sae: Sae, x: Float[Tensor, "*axes d_in"]) -> Float[Tensor, "batch pos d_in"]:
    """The activation; raises NotMeasured for one with another axis (heads) or another width."""
    if x.ndim != 3:
        raise NotMeasured(
            f"{sae.hook} has shape {tuple(x.shape)}; an SAE reads [batch pos d_in], and would be "
            "applied to every head alike here"
        )
    _check_width(sae, x.shape[-1])
    return x


def _check_width(sae: Sae, width: int) -> None:
    if width != sae.width:
        raise NotMeasured(
            f"the SAE reads {sae.width} dimensions, but {sae.hook} has {width}; take the SAE that "
            "was trained on this model and hook"
        )


def _edited(
    model: Model,
    sae: Sae,
    apply: Callable[[Tensor], Tensor],
    what: str,
    at: Place,
    over: Prompts | None = None,
    noop: bool = False,
) -> Edited:
    check_hook(model, sae)
    place = Position.parse(at) if isinstance(at, str) else at
    before, source = edit_keys(model), None if over is None else over.tokens
    known = over is None or None not in before  # a mean depends on the edits before it
    edit = Edit(
        sae.hook,
        lambda x: apply(_fitting(sae, x)),
        f"{what} at {place}" if place else what,
        noop=noop,
        key=("sae", id(sae), what, id(source), before) if known else None,
        holds=(sae, source),
        at=place,
    )
    return edited(model, edit)


def _token_mean(x: Float[Tensor, "batch pos"], prompts: Prompts) -> Float[Tensor, " batch"]:
    inside = counted(prompts).float()
    return (x * inside).sum(1) / inside.sum(1)


def _given(weight: Tensor | None, name: str) -> Tensor:
    if weight is None:
        raise ValueError(
            f"this SAE's architecture needs the weight {name}; the checkpoint lacks it"
        )
    return weight
