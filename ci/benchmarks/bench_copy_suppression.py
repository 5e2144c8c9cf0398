"""Copy suppression of all heads: the effect on the attended token, the losses without a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import pytest
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.ci.benchmarks.harness import Measure
from claimlens.ci.benchmarks.hook_loops import Hooks, run, taken
from claimlens.ci.benchmarks.subject import Subject
from claimlens.ci.benchmarks.sweep import Build, Peer, Sweep, unravel
from claimlens.circuits.kernels.bridge import output_weights, unembedding
from claimlens.circuits.kernels.copy_suppression import SourceEffects, source_effects
from claimlens.circuits.kernels.projection_loss import loss_changes_of_each
from claimlens.circuits.parts import Head


def coefficients(subject: Subject) -> Sweep:
    """Effects by source and by sequence, as seed 001 has them without `return_new_loss`."""

    def ours() -> Float[Tensor, "cell value"]:
        return _flat(source_effects(subject.bridge, subject.clean))

    def peer(cells: Sequence[int]) -> Float[Tensor, "cell value"]:
        return torch.stack([_HeadRun(subject, cell).coefficients() for cell in cells])

    return _sweep(subject, ours, peer)


def losses(subject: Subject) -> Sweep:
    """The changes of three losses, as seed 001 has them with `return_new_loss`."""

    @cache
    def intact() -> Float[Tensor, "batch predicted"]:
        return _per_token(run(subject, subject.clean, []), subject.clean.tokens)

    def ours() -> Float[Tensor, "cell value"]:
        found = loss_changes_of_each(subject.bridge, subject.clean)
        parts = [found[keep][..., 1:] for keep in ("projection", "perpendicular", "nothing")]
        return rearrange(torch.stack(parts), "keep b layer head pos -> (layer head) (keep b pos)")

    def peer(cells: Sequence[int]) -> Float[Tensor, "cell value"]:
        each = (_HeadRun(subject, cell).losses() for cell in cells)
        return torch.stack([(found - intact()).flatten() for found in each])

    return _sweep(subject, ours, peer)


def _sweep(subject: Subject, ours: Callable[[], Tensor], peer: Peer) -> Sweep:
    return Sweep(
        cells=subject.size.layers * subject.size.heads,
        ours=ours,
        peers=lambda: {"TransformerLens": peer},
        prompts=subject.clean,
    )


def _flat(found: SourceEffects) -> Float[Tensor, "cell value"]:
    source = rearrange(found.per_source, "b layer head src -> (layer head) (b src)")
    return torch.cat([source, rearrange(found.per_sequence, "b layer head -> (layer head) b")], 1)


class _HeadRun:
    """One run of the model for one head, as in seed 001: its values, pattern, z and final scale.

    Its hooks compute on the way; here the same is computed after the run.
    """

    def __init__(self, subject: Subject, cell: int) -> None:
        self.tokens = subject.clean.tokens
        head = Head(*unravel(cell, (subject.size.layers, subject.size.heads)))
        kept: dict[str, Tensor] = {}
        names = {part: f"blocks.{head.layer}.attn.hook_{part}" for part in ("v", "pattern", "z")}
        names["scale"] = "ln_final.hook_scale"
        hooks: Hooks = [(name, taken(kept, part)) for part, name in names.items()]
        self.logits = run(subject, subject.clean, hooks)
        self.scale, self.pattern = kept["scale"], kept["pattern"][:, head.index]
        weights = output_weights(subject.bridge, head)
        self.moved, self.written = (kept[part][:, :, head.index] @ weights for part in ("v", "z"))
        self.unembed = unembedding(subject.bridge)
        self.own = self.unembed.T[self.tokens]

    def coefficients(self) -> Float[Tensor, " value"]:
        """Effects by source, and their mean by sequence weighted by attention."""
        effect = einsum(self.moved, self.own, "b src d, b src d -> b src")
        text = (self.tokens != 0).float()
        mask = einsum(text, text, "b dst, b src -> b dst src")
        attention = self.pattern * mask
        source = (attention * effect[:, None] / self.scale).sum(1)
        weight = attention.sum(1)
        return torch.cat([source.flatten(), (source * weight).sum(1) / weight.sum(1)])

    def losses(self) -> Float[Tensor, "keep batch pos"]:
        """The loss of every token but the first with the projection, the rest, or nothing."""
        along = (self.moved * self.own).sum(-1, keepdim=True)
        along = along / self.own.square().sum(-1, keepdim=True) * self.own
        projected = einsum(self.pattern, along, "b dst src, b src d -> b dst d")
        kept = (projected - self.written) / self.scale @ self.unembed
        nothing = -self.written / self.scale @ self.unembed
        changes = (kept, nothing - kept, nothing)
        return torch.stack([_per_token(self.logits + change, self.tokens) for change in changes])


def _per_token(
    logits: Float[Tensor, "batch pos d_vocab"], tokens: Tensor
) -> Float[Tensor, "batch predicted"]:
    found = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])
    return -found[..., 0]


SWEEPS: dict[str, Build] = {
    "copy-suppression-coefficients": coefficients,
    "copy-suppression-losses": losses,
}


@pytest.mark.parametrize("row", SWEEPS)
def bench_copy_suppression(row: str, measured: Measure) -> None:
    """One forward pass per head in TransformerLens, one in all here."""
    measured(row, SWEEPS[row])
