"""A sweep as it is measured: our call, and what each peer does cell by cell."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.ci.benchmarks.subject import Subject
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


class Pending(Exception):
    """The kernel of this row is not part of claimlens yet."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """One sweep over `cells` cells.

    `ours` gives the numbers of all of them, "cell value", and counts every forward that it needs.
    `peers` makes theirs, with what they cache beforehand, which costs them nothing. `prompts` are
    what a cell's forward pass runs on.
    """

    cells: int
    ours: Callable[[], Float[Tensor, "cell value"]]
    peers: Callable[[], Mapping[str, Peer]]
    prompts: Prompts

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


def kernel(module: str, name: str) -> Any:
    """A kernel by name; raises Pending where it is not there yet."""
    try:
        return getattr(import_module(f"claimlens.circuits.kernels.{module}"), name)
    except (ModuleNotFoundError, AttributeError):
        raise Pending(f"{module}.{name} is not there yet") from None


def by_cell(effect: Float[Tensor, "batch layer head *pos"]) -> Float[Tensor, "cell batch"]:
    """Effects of every cell, the last axis of the cells running fastest."""
    return rearrange(effect.flatten(1), "batch cell -> cell batch")


def unravel(cell: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Where a cell lies: its index along each axis."""
    return tuple(int(i) for i in torch.unravel_index(torch.tensor(cell), tuple(shape)))
