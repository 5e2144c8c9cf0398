"""Direct logit attribution over all components: which of them raises the answer, and by how much.

The residual stream is a sum: embeddings, every head, every MLP, the attention biases. With the
final norm's scale frozen each of them adds to a logit on its own, and with b_U they add up to it.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.kernels.attribution import FINAL_SCALE
from claimlens.circuits.kernels.bridge import (
    all_heads,
    attention_bias,
    check_direct,
    embeds_positions,
    output_weights,
    unembedding,
    unembedding_bias,
)
from claimlens.circuits.kernels.cache import Model, cache, intact
from claimlens.circuits.kernels.directions import one_position
from claimlens.circuits.kernels.latent_attribution import Parts
from claimlens.circuits.parts import Head, Position, Prompts
from claimlens.circuits.verdict import NotMeasured

Toward = Literal["answer", "logit_diff"]
UNEMBED_BIAS = "unembed bias"


def decompose(
    model: Model, prompts: Prompts, toward: Toward = "answer", at: str | Position = "END"
) -> Parts:
    """What each component adds to the answer's logit, or to the logit difference [logits].

    A component c of the residual stream gives c / scale . W_U[answer]. Labels: "embed", "pos_embed"
    where positions are embedded, every head ("L0H3") and "MLP0" … by layer, "attention bias" (all
    b_O, with what the value biases add) and "unembed bias" (b_U with the final norm's bias). They
    add up to the logit after `at`, over the vocabulary's mean.

    DLA of the SAE notebook (seed 003), there from TransformerLens' get_full_resid_decomposition,
    without b_U; Elhage et al. 2021. Raises NotApplicable where what heads write is normalised or
    the logits are capped, NotMeasured where the parts don't add up.
    """
    for head in all_heads(intact(model)):
        check_direct(intact(model), head)
    labels, stream = residual_parts(model, prompts, at)
    direction, bias = _toward(model, prompts, toward)
    values = direct_effect(model, prompts, stream, direction, at)
    found = Parts((*labels, UNEMBED_BIAS), torch.cat([values, bias[:, None]], 1))
    _check_whole(found.total, _whole(model, prompts, toward, at))
    return found


def residual_parts(
    model: Model, prompts: Prompts, at: str | Position = "END"
) -> tuple[tuple[str, ...], Float[Tensor, "batch component d_model"]]:
    """The final residual stream at a position as a sum, one labelled vector per component."""
    bridge = intact(model)
    layers = range(int(bridge.cfg.n_layers))
    z, mlp = "blocks.{}.attn.hook_z", "blocks.{}.hook_mlp_out"
    learned = ("hook_pos_embed",) if embeds_positions(bridge) else ()
    names = [name.format(layer) for layer in layers for name in (z, mlp)]
    run = cache(model, prompts, ["hook_embed", *learned, *names, FINAL_SCALE])
    place = _place(prompts, at)
    parts = {"embed": run["hook_embed"][place]}
    if learned:
        parts["pos_embed"] = run["hook_pos_embed"].expand_as(run["hook_embed"])[place]
    for layer in layers:
        for head in (h for h in all_heads(bridge) if h.layer == layer):
            parts[str(head)] = _written(model, run[z.format(layer)][place], head)
        parts[f"MLP{layer}"] = run[mlp.format(layer)][place]
    biases = torch.stack([attention_bias(bridge, layer) for layer in layers]).sum(0)
    parts["attention bias"] = biases.expand_as(parts["embed"])
    return tuple(parts), torch.stack(list(parts.values()), 1)


def direct_effect(
    model: Model,
    prompts: Prompts,
    written: Float[Tensor, "batch component d_model"],
    direction: Float[Tensor, "batch d_model"],
    at: str | Position = "END",
) -> Float[Tensor, "batch component"]:
    """What vectors in the residual stream add along an unembedding direction [logits].

    Over the final norm's scale of this run at `at`, frozen. The mean that a LayerNorm takes off is
    nothing that W_U reads: folding has centred it.
    """
    scale = cache(model, prompts, [FINAL_SCALE])[FINAL_SCALE][_place(prompts, at)]
    return einsum(
        written / scale[:, None],
        direction,
        "batch component d_model, batch d_model -> batch component",
    )


def answers_of(prompts: Prompts) -> Int[Tensor, " batch"]:
    """Token ids of the answers; raises ValueError where there are none."""
    if prompts.answer is None:
        raise ValueError("these prompts have no answers; use a prompt set with answers, as `ioi`")
    return prompts.answer


def _written(
    model: Model, z: Float[Tensor, "batch head d_head"], head: Head
) -> Float[Tensor, "batch d_model"]:
    weights = output_weights(intact(model), head)
    return einsum(z[:, head.index], weights, "batch d_head, d_head d_model -> batch d_model")


def _toward(
    model: Model, prompts: Prompts, toward: Toward
) -> tuple[Float[Tensor, "batch d_model"], Float[Tensor, " batch"]]:
    """The direction of the answer, or of the logit difference, and the same of b_U."""
    unembed, bias = unembedding(intact(model)).T, unembedding_bias(intact(model))
    answer, wrong = answers_of(prompts), prompts.wrong_answer
    if toward == "answer":
        return unembed[answer], bias[answer]
    if wrong is None:
        raise ValueError("these prompts have no wrong answers; decompose toward='answer'")
    return unembed[answer] - unembed[wrong], bias[answer] - bias[wrong]


def _whole(
    model: Model, prompts: Prompts, toward: Toward, at: str | Position
) -> Float[Tensor, " batch"]:
    """What the parts must add up to."""
    logits = cache(model, prompts).logits_at(one_position(prompts, at)[:, None])[:, 0]
    whole = logits.gather(1, answers_of(prompts)[:, None])[:, 0]
    if toward == "answer" or prompts.wrong_answer is None:
        return whole
    return whole - logits.gather(1, prompts.wrong_answer[:, None])[:, 0]


def _check_whole(found: Float[Tensor, " batch"], wanted: Float[Tensor, " batch"]) -> None:
    """The parts add up to the whole, to what is lost by rounding in float32 or below."""
    precision = max(torch.finfo(wanted.dtype).eps, torch.finfo(torch.float32).eps) ** 0.5
    gap = float((found - wanted).abs().max())
    if gap > precision * max(1.0, float(wanted.abs().max())):
        raise NotMeasured(
            f"the components add up to something else than the logit: {gap:.3g} is missing. An "
            "edit of the residual stream itself, or an architecture that adds more to it"
        )


def _place(
    prompts: Prompts, at: str | Position
) -> tuple[Int[Tensor, " batch"], Int[Tensor, " batch"]]:
    return torch.arange(len(prompts), device=prompts.tokens.device), one_position(prompts, at)
