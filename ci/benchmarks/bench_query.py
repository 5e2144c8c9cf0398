"""A vector added to what a head's query reads, at many scales."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.ci.benchmarks.harness import Measure
from claimlens.ci.benchmarks.hook_loops import Hooks, run, taken
from claimlens.ci.benchmarks.subject import SEED, Subject
from claimlens.ci.benchmarks.sweep import Build, Sweep, unravel
from claimlens.circuits.kernels.bridge import query_weights
from claimlens.circuits.kernels.query_sweep import attention_readouts, sweep
from claimlens.circuits.parts import Head

SCALES = [float(n) for n in range(-10, 11)]
HEADS = 7


def attention_by_scale(subject: Subject) -> Sweep:
    """Attention from END to IO with scale x a vector in the query of one late head."""
    heads, vector = _heads(subject), _vector(subject)

    def ours() -> Float[Tensor, "cell batch"]:
        found = sweep(
            subject.bridge, subject.clean, heads, vector, SCALES, attention_readouts(["IO"])
        )
        return rearrange(found["IO"], "head scale batch -> (head scale) batch")

    def peer(cells: Sequence[int]) -> Float[Tensor, "cell batch"]:
        each = (unravel(cell, (len(heads), len(SCALES))) for cell in cells)
        return torch.stack([_run(subject, heads[i], SCALES[j] * vector) for i, j in each])

    return Sweep(
        cells=len(heads) * len(SCALES),
        ours=ours,
        peers=lambda: {"TransformerLens": peer},
        prompts=subject.clean,
    )


def _run(
    subject: Subject, head: Head, added: Float[Tensor, "batch d_model"]
) -> Float[Tensor, " batch"]:
    """One run with hooks, as seed 000 has it; the pattern of the head is read on the way."""
    block, kept = f"blocks.{head.layer}", dict[str, Tensor]()
    norm = subject.bridge.blocks[head.layer].ln1
    weights = query_weights(subject.bridge, head)

    def query(old: Float[Tensor, "batch pos head d_head"], hook: object) -> Tensor:
        stream = kept["stream"][:, -1]
        moved = norm(stream + added) - norm(stream)
        old[:, -1, head.index] += moved @ weights
        return old

    hooks: Hooks = [
        (f"{block}.hook_resid_pre", taken(kept, "stream")),
        (f"{block}.attn.hook_q", query),
        (f"{block}.attn.hook_pattern", taken(kept, "pattern")),
    ]
    run(subject, subject.clean, hooks)
    rows = torch.arange(subject.size.batch, device=added.device)
    return kept["pattern"][rows, head.index, -1, subject.clean.at("IO")[:, 0]]


def _heads(subject: Subject) -> list[Head]:
    """As many heads as the notebook has name movers and backups, from the last quarter."""
    first = 3 * subject.size.layers // 4
    late = [
        Head(layer, index)
        for index in range(subject.size.heads)
        for layer in range(first, subject.size.layers)
    ]
    return sorted(late[:HEADS])


def _vector(subject: Subject) -> Float[Tensor, "batch d_model"]:
    shape = (subject.size.batch, subject.size.width)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))
    return drawn.to(subject.clean.tokens.device)


SWEEPS: dict[str, Build] = {"query-intervention": attention_by_scale}


@pytest.mark.parametrize("row", SWEEPS)
def bench_query(row: str, measured: Measure) -> None:
    """One value per head, scale and prompt."""
    measured(row, SWEEPS[row])
