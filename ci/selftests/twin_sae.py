"""Sparse autoencoders written from their papers' formulas, one token at a time, without claimlens.

`random_sae` has random weights for every architecture; `encode` and `decode` are plain loops.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor

from claimlens.circuits.kernels.sae import Architecture, Sae

LATENTS = 40
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)


def random_sae(
    architecture: Architecture,
    hook: str,
    width: int,
    latents: int = LATENTS,
    generator: torch.Generator | None = None,
    **changes: Any,
) -> Sae:
    """An SAE in float64 that has every weight an architecture may need."""
    generator = generator or torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    whole = Sae(
        hook=hook,
        architecture=architecture,
        W_enc=random(width, latents) / width**0.5,
        W_dec=random(latents, width) / width**0.5,
        b_dec=0.1 * random(width),
        b_enc=0.1 * random(latents),
        k=5,
        threshold=0.2 * random(latents).abs(),
        b_gate=0.1 * random(latents),
        b_mag=0.1 * random(latents),
        r_mag=0.1 * random(latents),
    )
    return replace(whole, **changes)


def encode(sae: Sae, x: Tensor) -> Tensor:
    """The latents of activations "token d_in"."""
    return torch.stack([_encode_one(sae, row.double()) for row in x])


def decode(sae: Sae, latents: Tensor, without: tuple[int, ...] = ()) -> Tensor:
    """The reconstruction from latents "token latent", some of them left out."""
    rows = []
    for values in latents:
        row = sae.b_dec.double().clone()
        for j, value in enumerate(values.tolist()):
            if value and j not in without:
                row += value * sae.W_dec[j].double()
        rows.append(row)
    return torch.stack(rows)


def _encode_one(sae: Sae, x: Tensor) -> Tensor:
    centred = x - sae.b_dec.double() if sae.apply_b_dec_to_input else x
    inner = [float(centred.dot(column)) for column in sae.W_enc.double().T]
    values = [_activation(sae, j, value) for j, value in enumerate(inner)]
    if sae.architecture == "topk":
        top = sorted(range(len(values)), key=lambda j: -_pre(sae, j, inner[j]))[: sae.k]
        values = [value if j in top else 0.0 for j, value in enumerate(values)]
    return torch.tensor(values, dtype=torch.float64)


def _activation(sae: Sae, j: int, inner: float) -> float:
    if sae.architecture == "gated":
        if inner + _of(sae.b_gate, j) <= 0:
            return 0.0
        return max(0.0, math.exp(_of(sae.r_mag, j)) * inner + _of(sae.b_mag, j))
    pre = _pre(sae, j, inner)
    if sae.architecture == "jumprelu" and pre <= _of(sae.threshold, j):
        return 0.0
    return max(0.0, pre)


def _pre(sae: Sae, j: int, inner: float) -> float:
    return inner + _of(sae.b_enc, j)


def _of(weight: Tensor | None, j: int) -> float:
    assert weight is not None
    return float(weight[j])
