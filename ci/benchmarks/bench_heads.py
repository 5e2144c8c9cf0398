"""Every head patched, at all positions and at the last one."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from claimlens.ci.benchmarks.harness import Measure
from claimlens.ci.benchmarks.hook_loops import Hooks, cached, hook_loop, own_function, put
from claimlens.ci.benchmarks.plain_forwards import ALL, nnsight_peers
from claimlens.ci.benchmarks.subject import Subject
from claimlens.ci.benchmarks.sweep import Build, Peer, Sweep, by_cell, unravel
from claimlens.circuits.kernels.patch_heads import patch_heads


def all_positions(subject: Subject) -> Sweep:
    """What each head writes, everywhere, taken from the clean run."""
    shape = (subject.size.layers, subject.size.heads)

    def index(cell: int) -> tuple[int, ...]:
        return unravel(cell, shape)

    def peers() -> Mapping[str, Peer]:
        name = "get_act_patch_attn_head_out_all_pos"
        return {
            "TransformerLens": own_function(subject, name, "attn.hook_z", index),
            "run_with_hooks": _loop(subject, ALL),
            **nnsight_peers(subject),
        }

    clean, corrupted = subject.clean, subject.corrupted
    return Sweep(
        cells=shape[0] * shape[1],
        ours=lambda: by_cell(patch_heads(subject.bridge, clean, corrupted).effect),
        peers=peers,
        prompts=corrupted,
        cached=(clean, corrupted),
    )


def last_position(subject: Subject) -> Sweep:
    """What each head writes at END, taken from the clean run."""
    shape, end = (subject.size.layers, subject.size.heads), subject.size.tokens - 1

    def index(cell: int) -> tuple[int, ...]:
        layer, head = unravel(cell, shape)
        return layer, end, head

    def peers() -> Mapping[str, Peer]:
        name = "get_act_patch_attn_head_out_by_pos"
        return {
            "TransformerLens": own_function(subject, name, "attn.hook_z", index),
            "run_with_hooks": _loop(subject, end),
            **nnsight_peers(subject, [end]),
        }

    clean, corrupted = subject.clean, subject.corrupted
    return Sweep(
        cells=shape[0] * shape[1],
        ours=lambda: by_cell(patch_heads(subject.bridge, clean, corrupted, at="END").effect),
        peers=peers,
        prompts=corrupted,
        cached=(clean, corrupted),
    )


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
