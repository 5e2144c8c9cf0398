"""Circuits of a plain GPT-2 from its raw weights, dense and in float64.

What folding and centring do is said here by their definitions: a head reads the residual stream
weighted by its LayerNorm, what is written has its mean over the width taken off, and logits have
their mean over the vocabulary taken off.
"""

from __future__ import annotations

import torch
from torch import Tensor

from claimlens.ci.selftests.twin import Place, Twin, gelu


def embedded(twin: Twin, variant: str) -> Tensor:
    """One embedding of every token, [d_vocab, d_model], centred."""
    x = twin.weights["transformer.wte.weight"]
    attended = _attention0(twin, x)
    found = {
        "W_E": x,
        "W_E+MLP0": x + _mlp0(twin, x),
        "W_EE": x + attended + _mlp0(twin, x + attended),
        "W_EE-W_E": attended + _mlp0(twin, x + attended),
        "MLP0": _mlp0(twin, x + attended),
    }[variant]
    return centred(found)


def ov(twin: Twin, at: Place) -> Tensor:
    """W_OV, dense: from the normalised stream to what is written."""
    projection = torch.eye(twin.width).double() - 1 / twin.width
    return projection @ _read(twin, at, 2) @ twin.w_o(at) @ projection


def qk(twin: Twin, at: Place) -> Tensor:
    """W_QK, dense."""
    projection = torch.eye(twin.width).double() - 1 / twin.width
    return projection @ _read(twin, at, 0) @ _read(twin, at, 1).T @ projection


def unembedded(twin: Twin) -> Tensor:
    """W_U, [d_model, d_vocab]: weighted by the final LayerNorm, less the vocabulary's mean."""
    weighted = twin.weights["lm_head.weight"] * twin.weights["transformer.ln_f.weight"]
    return (weighted - weighted.mean(0)).T


def bias(twin: Twin) -> Tensor:
    """b_U: what the final LayerNorm's bias adds to every logit, less the vocabulary's mean."""
    logits = twin.weights["lm_head.weight"] @ twin.weights["transformer.ln_f.bias"]
    return logits - logits.mean()


def copy_logits(twin: Twin, rows: Tensor, at: Place, sign: int) -> Tensor:
    """Logits of the OV circuit on some embeddings, with LayerNorm and bias."""
    written = sign * rows @ ov(twin, at)
    scale = (written.var(1, unbiased=False, keepdim=True) + twin.eps).sqrt()
    return written / scale @ unembedded(twin) + bias(twin)


def first(scores: Tensor, own: Tensor, k: int) -> Tensor:
    """Whether each row's own column is among its k highest, as torch.topk finds them."""
    return (scores.topk(k).indices == own[:, None]).any(1)


def centred(x: Tensor) -> Tensor:
    """Less the mean over the width."""
    return x - x.mean(-1, keepdim=True)


def _read(twin: Twin, at: Place, part: int) -> Tensor:
    """W_Q, W_K or W_V of a head (part 0, 1, 2), weighted by its LayerNorm."""
    layer, head = at
    block = f"transformer.h.{layer}."
    start = part * twin.width + head * twin.d_head
    weight = twin.weights[block + "attn.c_attn.weight"][:, start : start + twin.d_head]
    return twin.weights[block + "ln_1.weight"][:, None] * weight


def _normed(twin: Twin, x: Tensor, name: str) -> Tensor:
    scale = (x.var(1, unbiased=False, keepdim=True) + twin.eps).sqrt()
    weight, shift = twin.weights[f"{name}.weight"], twin.weights[f"{name}.bias"]
    return centred(x) / scale * weight + shift


def _attention0(twin: Twin, x: Tensor) -> Tensor:
    """Layer 0's attention where every token looks at itself: its own values, through W_O."""
    w, block = twin.weights, "transformer.h.0.attn."
    read = _normed(twin, x, "transformer.h.0.ln_1")
    qkv = read @ w[block + "c_attn.weight"] + w[block + "c_attn.bias"]
    return qkv[:, 2 * twin.width :] @ w[block + "c_proj.weight"] + w[block + "c_proj.bias"]


def _mlp0(twin: Twin, x: Tensor) -> Tensor:
    w, block = twin.weights, "transformer.h.0.mlp."
    read = _normed(twin, x, "transformer.h.0.ln_2")
    hidden = gelu(read @ w[block + "c_fc.weight"] + w[block + "c_fc.bias"])
    return hidden @ w[block + "c_proj.weight"] + w[block + "c_proj.bias"]
