"""A sweep as it is measured: our call, and what each peer does cell by cell."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.ci.benchmarks.subject import Subject
from claimlens.circuits.engine.run import intact_run
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.parts import Prompts

TOLERANCE = 1e-3
"""Largest difference between our numbers and a peer's: float32 along two orders of summation."""
SHARE = 0.02
"""And as a share of the largest number: a small effect must not agree by being small."""
SEED = 0

Peer = Callable[[Sequence[int]], Tensor]
"""The numbers of the cells that are given, "cell value", one cell after the other or batched."""


class Disagreement(AssertionError):
    """Two ways to compute the same number do not give it; such a row has no speed."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """One sweep over `cells` cells.

    `ours` gives the numbers of all of them, "cell value". `peers` makes theirs, with what they keep
    beforehand, which costs them nothing; in the same way ours starts from the intact runs of the
    prompts in `cached`, and counts every other forward. `prompts` are what a cell's forward pass
    runs on.
    """

    cells: int
    ours: Callable[[], Float[Tensor, "cell value"]]
    peers: Callable[[], Mapping[str, Peer]]
    prompts: Prompts
    cached: tuple[Prompts, ...] = ()

    def started(self, subject: Subject) -> Callable[[], Tensor]:
        """`ours`, with the intact runs of `cached` remembered, and no result of any sweep."""
        memory = Memory()
        memory.values.max_bytes = 0
        with remembering(memory):
            for prompts in self.cached:
                intact_run(subject.bridge, prompts)

        def ours() -> Tensor:
            with remembering(memory):
                return self.ours()

        return ours if self.cached else self.ours

    def sample(self, most: int) -> list[int]:
        """A seeded sample of the cells, on which slow peers are timed."""
        return sorted(random.Random(SEED).sample(range(self.cells), min(most, self.cells)))


Build = Callable[[Subject], Sweep]


def check_agreement(
    name: str, ours: Float[Tensor, "cell value"], theirs: Float[Tensor, "cell value"]
) -> float:
    """The largest difference of two ways to compute the same numbers.

    Raises Disagreement where it is over TOLERANCE or SHARE, where the shapes differ, or where all
    numbers are 0, so that their agreement says nothing.
    """
    if ours.shape != theirs.shape:
        raise Disagreement(f"{name} gives {tuple(theirs.shape)} numbers, we {tuple(ours.shape)}")
    gap, largest = float((ours - theirs).abs().max()), float(theirs.abs().max())
    if largest == 0:
        raise Disagreement(f"{name}: all numbers are 0; draw other cells")
    allowed = min(TOLERANCE, SHARE * largest)
    if not gap < allowed:
        raise Disagreement(f"{name} differs by {gap:.3g}; at most {allowed:.3g} is rounding")
    return gap


def by_cell(effect: Float[Tensor, "batch layer head *pos"]) -> Float[Tensor, "cell batch"]:
    """Effects of every cell, the last axis of the cells running fastest."""
    return rearrange(effect.flatten(1), "batch cell -> cell batch")


def unravel(cell: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Where a cell lies: its index along each axis."""
    return tuple(int(i) for i in torch.unravel_index(torch.tensor(cell), tuple(shape)))
