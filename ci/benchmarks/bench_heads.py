"""Every head patched, at all positions and at the last one."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from torch import Tensor

from claimlens.ci.benchmarks.harness import Measure
from claimlens.ci.benchmarks.hook_loops import Hooks, cached, hook_loop, own_function, put
from claimlens.ci.benchmarks.plain_forwards import ALL, nnsight_peers
from claimlens.ci.benchmarks.subject import Subject
from claimlens.ci.benchmarks.sweep import Build, Peer, Sweep, by_cell, unravel
from claimlens.circuits.kernels.patch_heads import patch_heads


def all_positions(subject: Subject) -> Sweep:
    """What each head writes, everywhere, taken from the clean run."""
    return _every_head(subject, "get_act_patch_attn_head_out_all_pos")


def last_position(subject: Subject) -> Sweep:
    """What each head writes at END, taken from the clean run."""
    end = subject.size.tokens - 1
    return _every_head(subject, "get_act_patch_attn_head_out_by_pos", end)


def _every_head(subject: Subject, function: str, at: int | None = None) -> Sweep:
    """One value a head; `function` of TransformerLens takes it at all positions or at one."""
    shape, where = (subject.size.layers, subject.size.heads), ALL if at is None else at
    clean, corrupted = subject.clean, subject.corrupted

    def index(cell: int) -> tuple[int, ...]:
        layer, head = unravel(cell, shape)
        return (layer, head) if at is None else (layer, at, head)

    def ours() -> Tensor:
        label = None if at is None else "END"
        return by_cell(patch_heads(subject.bridge, clean, corrupted, at=label).effect)

    def peers() -> Mapping[str, Peer]:
        return {
            "TransformerLens": own_function(subject, function, "attn.hook_z", index),
            "run_with_hooks": _loop(subject, where),
            **nnsight_peers(subject, [where]),
        }

    return Sweep(shape[0] * shape[1], ours, peers, corrupted, cached=(clean, corrupted))


def _loop(subject: Subject, where: slice | int) -> Peer:
    """One run per head with a hook on its z."""
    z = cached(subject, subject.clean, "attn.hook_z")

    def hooks(cell: int) -> Hooks:
        layer, head = unravel(cell, (subject.size.layers, subject.size.heads))
        name = f"blocks.{layer}.attn.hook_z"
        return [(name, put(z[name], ALL, where, head))]

    return hook_loop(subject, subject.corrupted, hooks)


SWEEPS: dict[str, Build] = {
    "head-all-positions": all_positions,
    "head-all-positions-64x20": all_positions,
    "head-last-position": last_position,
}


@pytest.mark.parametrize("row", SWEEPS)
def bench_heads(row: str, measured: Measure) -> None:
    """One value per head and prompt."""
    measured(row, SWEEPS[row])
