"""What every head moves or writes along directions of the residual stream, a layer at a time.

A direction is read back through W_O for all heads of a layer at once, so that nothing as wide as
the residual stream is made head by head: (v W_O)·u = v·(W_O u).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.engine.policy import Unsupported
from claimlens.circuits.kernels.bridge import Bridge, output_weights, soft_cap
from claimlens.circuits.kernels.direct import DirectRun, Keep, wide
from claimlens.circuits.parts import Head


def layers(heads: Sequence[Head]) -> Iterator[list[Head]]:
    """Heads that stand together by layer, as those of `all_heads`."""
    for _, some in groupby(heads, lambda head: head.layer):
        yield list(some)


def stacked_output(bridge: Bridge, heads: Sequence[Head]) -> Float[Tensor, "head d_head d_model"]:
    """W_O of some heads, in float32 at least."""
    return torch.stack([wide(output_weights(bridge, head)) for head in heads])


def moved_along(
    run: DirectRun, heads: Sequence[Head], directions: Float[Tensor, "batch src d_model"]
) -> Float[Tensor, "batch head src"]:
    """`DirectRun.moved` of each head, times the direction at each source."""
    values = torch.stack([run.value(head) for head in heads], 1)
    return _along(run.bridge, heads, values, directions)


def written_along(
    run: DirectRun,
    heads: Sequence[Head],
    dst: Int[Tensor, "batch slot"],
    directions: Float[Tensor, "batch slot d_model"],
) -> Float[Tensor, "batch head slot"]:
    """`DirectRun.written` of each head at these destinations, times the direction at each."""
    rows = torch.arange(len(dst), device=dst.device)[:, None]
    z = torch.stack([run.z(head)[rows, dst] for head in heads], 1)
    return _along(run.bridge, heads, z, directions)


def check_linear(run: DirectRun, heads: Sequence[Head], keeps: Sequence[Keep]) -> None:
    """Raise Unsupported where the algebra does not hold."""
    if soft_cap(run.bridge) is not None:
        raise Unsupported("the logits are soft-capped: what is added to them is not linear")
    if "perpendicular" not in keeps:
        return
    same = []
    for head in heads:
        value, z = run.value(head), run.z(head)
        summed = einsum(run.pattern(head), value, "row dst src, row src d -> row dst d")
        coarse = torch.finfo(run.cache.final.dtype).eps * value.abs().amax()
        same.append(((summed - z).abs() <= 8 * coarse).all())
    for head, holds in zip(heads, torch.stack(same).tolist(), strict=True):
        if not holds:
            raise Unsupported(f"z of {head} is not its attention times its values")


def _along(
    bridge: Bridge,
    heads: Sequence[Head],
    x: Float[Tensor, "batch head pos d_head"],
    directions: Float[Tensor, "batch pos d_model"],
) -> Float[Tensor, "batch head pos"]:
    """x through W_O, times the directions: layer by layer, so that little is held at a time."""
    found, first = [], 0
    for some in layers(heads):
        read = einsum(
            directions, stacked_output(bridge, some),
            "batch pos d, head d_head d -> batch pos head d_head",
        )  # fmt: skip
        mine = x[:, first : first + len(some)]
        found.append((mine * read.transpose(1, 2)).sum(-1))
        first += len(some)
    return torch.cat(found, 1)
