"""Path patching: one head to every later head's query, every head to the logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.ci.benchmarks.harness import Measure
from claimlens.ci.benchmarks.hook_loops import Hook, Hooks, cached, hook_loop, put
from claimlens.ci.benchmarks.plain_forwards import ALL
from claimlens.ci.benchmarks.subject import Subject
from claimlens.ci.benchmarks.sweep import Build, Peer, Sweep, by_cell, unravel
from claimlens.circuits.kernels.bridge import output_weights
from claimlens.circuits.kernels.direct_paths import direct_paths
from claimlens.circuits.kernels.path_sweep import path_effects
from claimlens.circuits.parts import Head


def from_early(subject: Subject) -> Sweep:
    """From a head of the first layer."""
    return _direct(subject, Head(0, 1))


def from_late(subject: Subject) -> Sweep:
    """From a head of the last layer but one."""
    return _direct(subject, Head(subject.size.layers - 2, 1))


def to_logits(subject: Subject) -> Sweep:
    """From every head to the logits, every other head frozen, the MLPs recomputed."""
    size, prompts, source = subject.size, subject.clean, subject.corrupted
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(size.layers)]

    def peers() -> Mapping[str, Peer]:
        z, other = (cached(subject, side, "attn.hook_z") for side in (prompts, source))

        def hooks(cell: int) -> Hooks:
            layer, head = unravel(cell, (size.layers, size.heads))
            frozen = [(name, put(z[name], ALL)) for name in names[layer + 1 :]]
            return [(names[layer], put(other[names[layer]], ALL, ALL, head)), *frozen]

        return {"TransformerLens": hook_loop(subject, prompts, hooks)}

    return Sweep(
        cells=size.layers * size.heads,
        ours=lambda: by_cell(path_effects(subject.bridge, prompts, source)),
        peers=peers,
        prompts=prompts,
        cached=(prompts, source),
    )


def _direct(subject: Subject, sender: Head) -> Sweep:
    """The sweep of `transformer_lens.patching.get_act_patch_direct_path`."""
    first = sender.layer + 1
    shape = (subject.size.layers - first, subject.size.heads)

    def ours() -> Float[Tensor, "cell batch"]:
        found: Tensor = direct_paths(
            subject.bridge, subject.clean, subject.corrupted, sender, into="q"
        )
        return rearrange(found[:, first:], "batch layer head -> (layer head) batch")

    return Sweep(
        cells=shape[0] * shape[1],
        ours=ours,
        peers=lambda: {"TransformerLens": _direct_loop(subject, sender, shape)},
        prompts=subject.clean,
        cached=(subject.clean, subject.corrupted),
    )


def _direct_loop(subject: Subject, sender: Head, shape: tuple[int, int]) -> Peer:
    """What that function does for each receiver; it has no way to be asked for some of them."""
    name = f"blocks.{sender.layer}.attn.hook_z"
    z, other = (
        cached(subject, side, name)[name][:, :, sender.index]
        for side in (subject.clean, subject.corrupted)
    )
    written = (other - z) @ output_weights(subject.bridge, sender)

    def hooks(cell: int) -> Hooks:
        later, head = unravel(cell, shape)
        hook = f"blocks.{sender.layer + 1 + later}.attn.hook_q_input"
        return [(hook, _added(written, head))]

    loop = hook_loop(subject, subject.clean, hooks)

    def effects(cells: Sequence[int]) -> Float[Tensor, "cell batch"]:
        with _split(subject):
            return loop(cells)

    return effects


def _added(change: Float[Tensor, "batch pos d_model"], head: int) -> Hook:
    """A hook that adds to what one head's query is made of."""

    def hook(old: Float[Tensor, "batch pos head d_model"], hook: object) -> Tensor:
        new = old.clone()
        new[:, :, head] += change
        return new

    return hook


@contextmanager
def _split(subject: Subject) -> Iterator[None]:
    """TransformerLens gives every head a copy of the stream to read its query from."""
    subject.bridge.set_use_split_qkv_input(True)
    try:
        yield
    finally:
        subject.bridge.set_use_split_qkv_input(False)


SWEEPS: dict[str, Build] = {
    "direct-path-early": from_early,
    "direct-path-late": from_late,
    "head-to-logits": to_logits,
}


@pytest.mark.parametrize("row", SWEEPS)
def bench_paths(row: str, measured: Measure) -> None:
    """One value per path and prompt."""
    measured(row, SWEEPS[row])
