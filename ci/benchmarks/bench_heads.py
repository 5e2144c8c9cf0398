"""Every head patched, at all positions and at the last one."""

from __future__ import annotations

import pytest

from claimlens.ci.benchmarks.harness import Measure
from claimlens.ci.benchmarks.hook_loops import Hooks, cached, hook_loop, own_function, put
from claimlens.ci.benchmarks.plain_forwards import ALL, nnsight_peers
from claimlens.ci.benchmarks.subject import Subject
from claimlens.ci.benchmarks.sweep import Build, Peer, Sweep, by_cell, kernel, unravel


def all_positions(subject: Subject) -> Sweep:
    """What each head writes, everywhere, taken from the clean run."""
    shape = (subject.size.layers, subject.size.heads)
    own = own_function(
        subject,
        "get_act_patch_attn_head_out_all_pos",
        "attn.hook_z",
        lambda cell: unravel(cell, shape),
    )
    return _sweep(subject, None, {"TransformerLens": own, **nnsight_peers(subject)})


def last_position(subject: Subject) -> Sweep:
    """What each head writes at END, taken from the clean run."""
    shape, end = (subject.size.layers, subject.size.heads), subject.size.tokens - 1

    def index(cell: int) -> tuple[int, ...]:
        layer, head = unravel(cell, shape)
        return layer, end, head

    own = own_function(subject, "get_act_patch_attn_head_out_by_pos", "attn.hook_z", index)
    return _sweep(subject, "END", {"TransformerLens": own, **nnsight_peers(subject, [end])})


def _sweep(subject: Subject, at: str | None, peers: dict[str, Peer]) -> Sweep:
    patch_heads = kernel("patch_heads", "patch_heads")
    clean, corrupted = subject.clean, subject.corrupted
    layers, heads = subject.size.layers, subject.size.heads
    z = cached(subject, clean, "attn.hook_z")
    where = ALL if at is None else subject.size.tokens - 1

    def hooks(cell: int) -> Hooks:
        layer, head = unravel(cell, (layers, heads))
        name = f"blocks.{layer}.attn.hook_z"
        return [(name, put(z[name], ALL, where, head))]

    return Sweep(
        cells=layers * heads,
        ours=lambda: by_cell(patch_heads(subject.bridge, clean, corrupted, at=at).effect),
        peers={**peers, "run_with_hooks": hook_loop(subject, corrupted, hooks)},
        prompts=corrupted,
    )


SWEEPS: dict[str, Build] = {
    "head-all-positions": all_positions,
    "head-all-positions-64x20": all_positions,
    "head-last-position": last_position,
}


@pytest.mark.parametrize("row", SWEEPS)
def bench_heads(row: str, measured: Measure) -> None:
    """One value per head and prompt."""
    measured(row, SWEEPS[row])
