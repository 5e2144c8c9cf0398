"""What a latent reads, written from the definition on raw weights, one neuron at a time.

It takes a run of the twin apart into the components of an MLP's input, and knows nothing of
TransformerLens, of folding or of hooks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from claimlens.ci.selftests.twin import Trace, Twin, gelu
from claimlens.circuits.kernels.sae import Sae


@dataclass(frozen=True)
class Neurons:
    """One layer's neurons at one position, with what each component gives to their input."""

    parts: dict[str, Tensor]  # d_mlp each
    bias: Tensor  # d_mlp
    pre: Tensor  # d_mlp
    post: Tensor  # d_mlp


def neurons(twin: Twin, trace: Trace, tokens: Tensor, layer: int, place: int) -> Neurons:
    """The neurons of an MLP, their inputs split by component over the norm's scale."""
    w, block = twin.weights, f"transformer.h.{layer}."
    streams = stream(twin, trace, tokens, layer, place)
    whole = torch.stack(list(streams.values())).sum(0)
    scale = (whole.var(unbiased=False) + twin.eps).sqrt()
    w_in = w[f"{block}ln_2.weight"][:, None] * w[f"{block}mlp.c_fc.weight"]
    parts = {name: (x - x.mean()) / scale @ w_in for name, x in streams.items()}
    bias = w[f"{block}ln_2.bias"] @ w[f"{block}mlp.c_fc.weight"] + w[f"{block}mlp.c_fc.bias"]
    pre = torch.stack([*parts.values(), bias]).sum(0)
    return Neurons(parts, bias, pre, gelu(pre))


def stream(twin: Twin, trace: Trace, tokens: Tensor, layer: int, place: int) -> dict[str, Tensor]:
    """What each component has written before a layer's MLP, at one position."""
    w = twin.weights
    found = {
        "embed": w["transformer.wte.weight"][tokens[place]],
        "pos_embed": w["transformer.wpe.weight"][place],
    }
    bias = torch.zeros(twin.width).double()
    for block in range(layer + 1):
        bias = bias + w[f"transformer.h.{block}.attn.c_proj.bias"]
        for head in range(twin.heads):
            at = (block, head)
            found[f"L{block}H{head}"] = (trace.z[at][place] - twin.b_v(at)) @ twin.w_o(at)
            bias = bias + twin.b_v(at) @ twin.w_o(at)
    for block in range(layer):
        found[f"MLP{block}"] = trace.mlp_out[block][place]
    return {**found, "attention bias": bias}


def attribution(
    twin: Twin, at: Neurons, sae: Sae, latent: int, kind: str, mean: dict[str, Tensor] | None = None
) -> dict[str, float]:
    """The attribution of each component, summed neuron by neuron."""
    reads, constant = reading(twin, sae, latent)
    found = dict.fromkeys([*at.parts, "own bias"], 0.0)
    for j, weight in enumerate(reads.tolist()):
        pre, post = float(at.pre[j]), float(at.post[j])
        for name, part in {**at.parts, "own bias": at.bias}.items():
            given = float(part[j])
            if kind == "gain":
                found[name] += weight * given * post / pre
            elif post > 0:
                found[name] += weight * given
            elif kind == "mean":
                assert mean is not None
                found[name] += weight * (given if name == "own bias" else float(mean[name][j]))
    found["own bias"] += constant
    return found


def reading(twin: Twin, sae: Sae, latent: int) -> tuple[Tensor, float]:
    """How a latent reads each neuron, and its value without any, before the non-linearity."""
    column = sae.W_enc[:, latent]
    constant = -float(sae.b_dec @ column) if sae.apply_b_dec_to_input else 0.0
    if sae.architecture == "gated":
        assert sae.r_mag is not None
        assert sae.b_mag is not None
        column = column * sae.r_mag[latent].exp()
        constant = constant * float(sae.r_mag[latent].exp()) + float(sae.b_mag[latent])
    else:
        assert sae.b_enc is not None
        constant += float(sae.b_enc[latent])
    if sae.hook.endswith("hook_post"):
        return column, constant
    block = f"transformer.h.{sae.hook.split('.')[1]}.mlp.c_proj."
    w_out, b_out = twin.weights[block + "weight"], twin.weights[block + "bias"]
    constant += float((b_out - b_out.mean()) @ column)
    return (w_out - w_out.mean(1, keepdim=True)) @ column, constant


def site_of(twin: Twin, trace: Trace, tokens: Tensor, sae: Sae) -> Tensor:
    """What an SAE reads, "pos d_in": an MLP's neurons, or its output centred over the width."""
    layer = int(sae.hook.split(".")[1])
    if sae.hook.endswith("hook_post"):
        places = range(len(tokens))
        return torch.stack([neurons(twin, trace, tokens, layer, i).post for i in places])
    out = trace.mlp_out[layer]
    return out - out.mean(1, keepdim=True)
