"""Patching place by place: every head at every position, the stream before every layer."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.ci.benchmarks.harness import Measure
from claimlens.ci.benchmarks.hook_loops import own_function
from claimlens.ci.benchmarks.plain_forwards import nnsight_peers
from claimlens.ci.benchmarks.subject import Subject
from claimlens.ci.benchmarks.sweep import Build, Peer, Sweep, by_cell, unravel
from claimlens.circuits.kernels.patch import patch_residual
from claimlens.circuits.kernels.patch_heads import patch_heads_by_position


def head_by_position(subject: Subject) -> Sweep:
    """What one head writes at one position, taken from the clean run."""
    size = subject.size
    shape = (size.layers, size.heads, size.tokens)

    def index(cell: int) -> tuple[int, ...]:
        layer, head, position = unravel(cell, shape)
        return layer, position, head

    def peers() -> Mapping[str, Peer]:
        name = "get_act_patch_attn_head_out_by_pos"
        return {
            "TransformerLens": own_function(subject, name, "attn.hook_z", index),
            **nnsight_peers(subject, range(size.tokens)),
        }

    return Sweep(
        cells=size.layers * size.heads * size.tokens,
        ours=lambda: by_cell(
            patch_heads_by_position(subject.bridge, subject.clean, subject.corrupted).effect
        ),
        peers=peers,
        prompts=subject.corrupted,
        cached=(subject.clean, subject.corrupted),
    )


def stream(subject: Subject) -> Sweep:
    """The residual stream before a layer, at one position, taken from the clean run."""
    shape = (subject.size.layers, subject.size.tokens)

    def peers() -> Mapping[str, Peer]:
        name, hook = "get_act_patch_resid_pre", "hook_resid_pre"
        return {
            "TransformerLens": own_function(subject, name, hook, lambda cell: unravel(cell, shape))
        }

    def ours() -> Float[Tensor, "cell batch"]:
        found = patch_residual(subject.bridge, subject.clean, subject.corrupted)
        return rearrange(found.effect, "batch layer place -> (layer place) batch")

    return Sweep(
        cells=shape[0] * shape[1],
        ours=ours,
        peers=peers,
        prompts=subject.corrupted,
        cached=(subject.clean, subject.corrupted),
    )


SWEEPS: dict[str, Build] = {
    "head-by-position": head_by_position,
    "resid-pre-by-position": stream,
}


@pytest.mark.parametrize("row", SWEEPS)
def bench_positions(row: str, measured: Measure) -> None:
    """One value per place and prompt."""
    measured(row, SWEEPS[row])
