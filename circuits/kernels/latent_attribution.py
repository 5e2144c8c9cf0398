"""Which upstream components a latent reads, through the neurons of its MLP.

Direct feature attribution of the SAE notebook (seed 003, direction_dla and
get_mean_component_wise_mlp), for SAEs on a layer's neurons or on what its MLP writes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.figures import Bar, Bars
from claimlens.circuits.kernels.bridge import (
    all_heads,
    attention_bias,
    embeds_positions,
    hook_names,
    mlp_input_bias,
    mlp_input_weights,
    mlp_output_bias,
    mlp_output_weights,
    output_weights,
    parallel,
)
from claimlens.circuits.kernels.cache import Model, cache, intact
from claimlens.circuits.kernels.directions import one_position
from claimlens.circuits.kernels.memory import Cache
from claimlens.circuits.kernels.sae import Sae, check_latents
from claimlens.circuits.kernels.token_mean import check_counted
from claimlens.circuits.parts import Head, Position, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

Neurons = Literal["zero", "mean", "gain"]
"""What passes through the neurons; see `feature_attribution`."""
Where = tuple[Int[Tensor, " row"], Int[Tensor, " row"]]
"""Prompt and position of each row."""
_SITE = re.compile(r"blocks\.(\d+)\.(mlp\.hook_post|hook_mlp_out)")


@dataclass(frozen=True, eq=False)
class Parts:
    """Contributions by component, prompt by prompt: they add up to `total`."""

    labels: tuple[str, ...]
    values: Float[Tensor, "batch component"]

    @property
    def total(self) -> Float[Tensor, " batch"]:
        """The sum over components."""
        return self.values.sum(1)

    def of(self, label: str) -> Float[Tensor, " batch"]:
        """One component's contribution; raises KeyError for an unknown label."""
        if label not in self.labels:
            raise KeyError(f"no component {label!r}; they are {', '.join(self.labels)}")
        return self.values[:, self.labels.index(label)]

    def top(self, k: int, among: Sequence[str] | None = None) -> tuple[str, ...]:
        """The `k` components that contribute most on the mean prompt, of all or of `among`."""
        names = self.labels if among is None else tuple(among)
        means = {name: float(self.of(name).mean()) for name in names}
        return tuple(sorted(names, key=lambda name: -means[name])[:k])

    def bars(self, title: str, unit: str) -> Bars:
        """Means over the prompts."""
        means = self.values.mean(0).tolist()
        return Bars(title, unit, [Bar(*pair) for pair in zip(self.labels, means, strict=True)])


def feature_attribution(
    model: Model,
    prompts: Prompts,
    sae: Sae,
    latent: int,
    at: str | Position = "END",
    neurons: Neurons = "zero",
    over: Prompts | None = None,
) -> Parts:
    """What each component upstream of the MLP adds to a latent's activation at a position.

    A component c, over the frozen scale of the norm before the MLP, gives neuron j the part
    c . W_in[:, j] of its input. The latent reads neuron j with weight r_j: W_enc[j] for an SAE on
    `mlp.hook_post`, (W_out W_enc)[j] for one on `hook_mlp_out` (times exp(r_mag) in a gated SAE).
    The attribution of c is the sum over j of r_j times

    - `zero`: the part where the neuron's activation is positive, else 0;
    - `mean`: the same, else c's mean part over the tokens of `over` but BOS;
    - `gain`: the part times the neuron's activation over its input, which is exact.

    Labels: "embed", "pos_embed" where positions are embedded, every head and every MLP up to here,
    "attention bias" (all b_O) and "own bias" (b_in, b_out and the SAE's biases). With `gain` they
    add up to the latent's activation wherever it is active; with the others not, as GELU is neither
    0 nor the identity. `zero` and `mean` are seed 003's, which leaves the own bias out.

    Take prompts on which the latent is active (`active_prompts`). Raises NotApplicable for a gated
    MLP and an SAE elsewhere, NotMeasured where the parts miss the MLP's input or `over` is empty.
    """
    (latent,) = check_latents(sae, [latent])
    layer, _ = mlp_site(sae)
    reads, constant = _reading(model, sae, latent)
    place = torch.arange(len(prompts), device=prompts.tokens.device), one_position(prompts, at)
    labels, parts = upstream(model, prompts, layer, place)
    passed = reads * _gates(model, prompts, layer, place, neurons)
    values, own = _through(model, layer, parts, passed)
    if neurons == "mean":
        mean = _mean_parts(model, over, layer).expand_as(parts)
        more, bias = _through(model, layer, mean, reads - passed)
        values, own = values + more, own + bias
    return Parts((*labels, "own bias"), torch.cat([values, own[:, None] + constant], 1))


def upstream(
    model: Model, prompts: Prompts, layer: int, place: Where
) -> tuple[tuple[str, ...], Float[Tensor, "row component d_model"]]:
    """Every component of a layer's MLP input, over the norm's frozen scale, at each row's place.

    They add up to the normalised input to rounding; raises NotMeasured where they do not.
    """
    return _normalised(model, _run(model, prompts, layer), layer, place)


def mlp_site(sae: Sae) -> tuple[int, Literal["post", "out"]]:
    """Layer of the MLP that the SAE reads, and whether its neurons or its output.

    Raises NotApplicable for an SAE elsewhere.
    """
    match = _SITE.fullmatch(sae.hook)
    if match is None:
        raise NotApplicable(
            f"the SAE reads {sae.hook}; attribution through neurons needs one on "
            "blocks.N.mlp.hook_post or blocks.N.hook_mlp_out"
        )
    return int(match[1]), "post" if match[2].endswith("post") else "out"


def _run(model: Model, prompts: Prompts, layer: int) -> Cache:
    """One forward pass with all that `_normalised` reads."""
    bridge = intact(model)
    if _scale(layer) not in hook_names(bridge):
        raise NotApplicable(f"the MLP of layer {layer} has no norm of its own ({_scale(layer)})")
    learned = ("hook_pos_embed",) if embeds_positions(bridge) else ()
    heads = [f"blocks.{block}.attn.hook_z" for block in range(_blocks(model, layer))]
    mlps = [f"blocks.{block}.hook_mlp_out" for block in range(layer)]
    names = ["hook_embed", *learned, *heads, *mlps, _scale(layer), f"blocks.{layer}.mlp.hook_in"]
    return cache(model, prompts, names)


def _normalised(
    model: Model, run: Cache, layer: int, place: Where
) -> tuple[tuple[str, ...], Float[Tensor, "row component d_model"]]:
    found = _components(model, run, layer, place)
    parts = torch.stack(list(found.values()), 1)
    if intact(model).cfg.normalization_type.startswith("LN"):
        parts = parts - parts.mean(-1, keepdim=True)
    parts = parts / run[_scale(layer)][place][:, None]
    _check_sum(parts.sum(1), run[f"blocks.{layer}.mlp.hook_in"][place], layer)
    return tuple(found), parts


def _components(
    model: Model, run: Cache, layer: int, place: Where
) -> dict[str, Float[Tensor, "row d_model"]]:
    bridge = intact(model)
    blocks = range(_blocks(model, layer))
    found = {"embed": run["hook_embed"][place]}
    if embeds_positions(bridge):
        found["pos_embed"] = run["hook_pos_embed"].expand_as(run["hook_embed"])[place]
    for head in (head for head in all_heads(bridge) if head.layer in blocks):
        found[str(head)] = _written(model, run, head, place)
    for block in range(layer):
        found[f"MLP{block}"] = run[f"blocks.{block}.hook_mlp_out"][place]
    bias = torch.stack([attention_bias(bridge, block) for block in blocks]).sum(0)
    return {**found, "attention bias": bias.expand_as(found["embed"])}


def _written(model: Model, run: Cache, head: Head, place: Where) -> Float[Tensor, "row d_model"]:
    z = run[f"blocks.{head.layer}.attn.hook_z"][:, :, head.index][place]
    return einsum(z, output_weights(intact(model), head), "row d_head, d_head d -> row d")


def _mean_parts(
    model: Model, over: Prompts | None, layer: int
) -> Float[Tensor, "component d_model"]:
    """Each component's mean over tokens, over the norm's scale of each token."""
    if over is None:
        raise ValueError("neurons='mean' needs the prompts to take the mean over: over=prompts")
    rows, places = check_counted(over).nonzero(as_tuple=True)
    run, sums, chunk = _run(model, over, layer), [], 256  # tokens held at a time, by component
    for start in range(0, len(rows), chunk):
        place = rows[start : start + chunk], places[start : start + chunk]
        sums.append(_normalised(model, run, layer, place)[1].sum(0))
    return torch.stack(sums).sum(0) / len(rows)


def _reading(
    model: Model, sae: Sae, latent: int
) -> tuple[Float[Tensor, " d_mlp"], Float[Tensor, ""]]:
    """What a latent reads of each neuron, and what it has without any: its activation where it is
    active is neurons . reads + constant."""
    layer, place = mlp_site(sae)
    mlp_input_weights(intact(model), layer)  # raises where the MLP is gated
    reads, constant = sae.W_enc[:, latent], torch.zeros_like(sae.b_dec[0])
    if sae.apply_b_dec_to_input:
        constant = constant - sae.b_dec @ reads
    if sae.architecture == "gated":
        if sae.r_mag is None or sae.b_mag is None:
            raise ValueError("a gated SAE needs the weights r_mag and b_mag")
        gain = sae.r_mag[latent].exp()
        reads, constant = reads * gain, constant * gain + sae.b_mag[latent]
    elif sae.b_enc is not None:
        constant = constant + sae.b_enc[latent]
    if place == "post":
        return reads, constant
    bridge = intact(model)
    constant = constant + mlp_output_bias(bridge, layer) @ reads
    return mlp_output_weights(bridge, layer) @ reads, constant


def _gates(
    model: Model, prompts: Prompts, layer: int, place: Where, neurons: Neurons
) -> Float[Tensor, "row d_mlp"]:
    """How much of its input each neuron passes."""
    run = cache(model, prompts, [_pre(layer), _post(layer)])
    pre, post = run[_pre(layer)][place], run[_post(layer)][place]
    return _gain(pre, post) if neurons == "gain" else (post > 0).to(post.dtype)


def _gain(
    pre: Float[Tensor, "row d_mlp"], post: Float[Tensor, "row d_mlp"]
) -> Float[Tensor, "row d_mlp"]:
    """Activation over input, 0 where the input is 0."""
    return torch.where(pre == 0, 0.0, post / torch.where(pre == 0, 1.0, pre))


def _through(
    model: Model,
    layer: int,
    parts: Float[Tensor, "row component d_model"],
    reads: Float[Tensor, "row d_mlp"],
) -> tuple[Float[Tensor, "row component"], Float[Tensor, " row"]]:
    """Parts, and b_in, through to neurons read with these weights, without forming the neurons."""
    w_in = mlp_input_weights(intact(model), layer)
    direction = einsum(w_in, reads, "d_model d_mlp, row d_mlp -> row d_model")
    through = einsum(parts, direction, "row component d_model, row d_model -> row component")
    return through, reads @ mlp_input_bias(intact(model), layer)


def _check_sum(
    found: Float[Tensor, "row d_model"], wanted: Float[Tensor, "row d_model"], layer: int
) -> None:
    precision = max(torch.finfo(wanted.dtype).eps, torch.finfo(torch.float32).eps) ** 0.5
    allowed = precision * float(wanted.abs().max())
    gap = float((found - wanted).abs().max())
    if gap > allowed:
        raise NotMeasured(
            f"the components do not add up to the input of MLP{layer}: {gap:.3g} is missing; "
            "this architecture adds something to the residual stream that is not counted"
        )


def _blocks(model: Model, layer: int) -> int:
    """How many layers' attention comes before a layer's MLP: its own too, unless side by side."""
    return layer + (not parallel(intact(model)))


def _scale(layer: int) -> str:
    return f"blocks.{layer}.ln2.hook_scale"


def _pre(layer: int) -> str:
    return f"blocks.{layer}.mlp.hook_pre"


def _post(layer: int) -> str:
    return f"blocks.{layer}.mlp.hook_post"
