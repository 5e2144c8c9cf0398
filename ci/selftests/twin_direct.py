"""Direct effects source by source, from a plain GPT-2's raw weights: sums written out.

What TransformerLens' processing means for an unembedding is said here by its definition: weighted
by the final LayerNorm, less the vocabulary's mean, and less its mean over the width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from claimlens.ci.selftests.twin import Place, Trace, Twin


def unembeddings(twin: Twin) -> Tensor:
    """One direction per token, [d_vocab, d_model]."""
    raw = twin.weights["lm_head.weight"]
    weighted = (raw - raw.mean(0)) * twin.weights["transformer.ln_f.weight"]
    return weighted - weighted.mean(1, keepdim=True)


def moved(twin: Twin, trace: Trace, at: Place) -> Tensor:
    """What a head writes if it looks at one source alone, [src, d_model], centred."""
    written = (trace.v[at] - twin.b_v(at)) @ twin.w_o(at)
    return written - written.mean(1, keepdim=True)


def output(twin: Twin, trace: Trace, at: Place) -> Tensor:
    """What a head writes, [dst, d_model], centred: from z, not from patterns."""
    written = (trace.z[at] - twin.b_v(at)) @ twin.w_o(at)
    return written - written.mean(1, keepdim=True)


def stream(twin: Twin, trace: Trace, tokens: Tensor, layer: int) -> Tensor:
    """The residual stream that a layer reads, [pos, d_model]."""
    w = twin.weights
    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][: len(tokens)]
    for below in range(layer):
        x = x + w[f"transformer.h.{below}.attn.c_proj.bias"] + trace.mlp_out[below]
        for head in range(twin.heads):
            x = x + trace.z[below, head] @ twin.w_o((below, head))
    return x


def effect_shares(
    twin: Twin, tokens: Tensor, at: Place, own: Sequence[int], *, negative_only: bool = False
) -> Tensor:
    """a(q, k) d(q, k), [dst, src]: what a look adds to the logit of the token `own[k]`."""
    trace = twin.run(tokens)
    written, unembed = moved(twin, trace, at), unembeddings(twin)
    shares = torch.zeros(len(tokens), len(tokens), dtype=torch.float64)
    for dst in range(len(tokens)):
        for src in range(dst + 1):
            effect = float(written[src] @ unembed[own[src]])
            if negative_only and effect > 0:
                effect = 0.0
            attention = trace.pattern[at][dst, src]
            shares[dst, src] = attention * effect / trace.final_scale[dst]
    return shares


def along(vector: Tensor, direction: Tensor, *, negative_only: bool = False) -> Tensor:
    """The projection of one vector on one direction."""
    length = float(vector @ direction) / float(direction @ direction)
    if negative_only and length > 0:
        length = 0.0
    return length * direction


def logits_with(twin: Twin, trace: Trace, change: Tensor) -> Tensor:
    """The logits with a change at the end of the stream, the scale frozen, [pos, d_vocab]."""
    return trace.logits + change / trace.final_scale[:, None] @ unembeddings(twin).T


def lens(twin: Twin, trace: Trace, tokens: Tensor, layer: int) -> Tensor:
    """The logit lens before a layer, up to a constant per position, [pos, d_vocab]."""
    read = twin._norm(stream(twin, trace, tokens, layer), "transformer.ln_f")
    return read @ twin.weights["lm_head.weight"].T


def most_predicted(lensed: Tensor, tokens: Sequence[int], dst: int, share: float) -> set[int]:
    """The sources up to `dst` that hold one of the most predicted tokens among them."""
    wanted = math.ceil(share * (dst + 1) - 1e-9)
    ranked = sorted(set(tokens[: dst + 1]), key=lambda token: -float(lensed[dst, token]))
    return {src for src in range(dst + 1) if tokens[src] in ranked[:wanted]}


def kl(before: Tensor, after: Tensor) -> Tensor:
    """KL(before || after) of two rows of logits."""
    p, q = before.log_softmax(-1), after.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)
