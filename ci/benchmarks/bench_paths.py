"""Path patching: one head to every later head's query, every head to the logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.ci.benchmarks.harness import Measure
from claimlens.ci.benchmarks.hook_loops import Hook, Hooks, cached, hook_loop, put
from claimlens.ci.benchmarks.plain_forwards import ALL
from claimlens.ci.benchmarks.subject import Subject
from claimlens.ci.benchmarks.sweep import Build, Sweep, by_cell, kernel, unravel
from claimlens.circuits.kernels.bridge import output_weights
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
    z, other = (cached(subject, side, "attn.hook_z") for side in (prompts, source))
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(size.layers)]

    def hooks(cell: int) -> Hooks:
        layer, head = unravel(cell, (size.layers, size.heads))
        frozen = [(name, put(z[name], ALL)) for name in names[layer + 1 :]]
        return [(names[layer], put(other[names[layer]], ALL, ALL, head)), *frozen]

    return Sweep(
        cells=size.layers * size.heads,
        ours=lambda: by_cell(path_effects(subject.bridge, prompts, source)),
        peers={"TransformerLens": hook_loop(subject, prompts, hooks)},
        prompts=prompts,
    )


def _direct(subject: Subject, sender: Head) -> Sweep:
    """The sweep of `transformer_lens.patching.get_act_patch_direct_path`."""
    direct_paths = kernel("direct_paths", "direct_paths")
    prompts, source, first = subject.clean, subject.corrupted, sender.layer + 1
    name = f"blocks.{sender.layer}.attn.hook_z"
    z, other = (cached(subject, side, name)[name][:, :, sender.index] for side in (prompts, source))
    written = (other - z) @ output_weights(subject.bridge, sender)
    shape = (subject.size.layers - first, subject.size.heads)

    def hooks(cell: int) -> Hooks:
        later, head = unravel(cell, shape)
        return [(f"blocks.{first + later}.attn.hook_q_input", _added(written, head))]

    def ours() -> Float[Tensor, "cell batch"]:
        found: Tensor = direct_paths(subject.bridge, prompts, source, sender, into="q")
        return rearrange(found[:, first:], "batch layer head -> (layer head) batch")

    def peer(cells: Sequence[int]) -> Float[Tensor, "cell batch"]:
        with _split(subject):
            return loop(cells)

    loop = hook_loop(subject, prompts, hooks)
    return Sweep(
        cells=shape[0] * shape[1],
        ours=ours,
        peers={"TransformerLens": peer},
        prompts=prompts,
    )


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
