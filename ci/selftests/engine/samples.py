"""A few prompts, and cells of several kinds on them, for tests that need no random ones."""

from __future__ import annotations

import torch
from torch import Tensor

from claimlens.circuits.engine.changes import Cell, Site, add, replace, resid_pre, scale, z
from claimlens.circuits.engine.run import Run
from claimlens.circuits.parts import Head, Prompts

LENGTHS = (9, 6, 9, 7, 4)


def five_prompts(seed: int) -> Prompts:
    """Random tokens; answers are the same whatever the seed."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, 300, (len(LENGTHS), max(LENGTHS)), generator=generator)
    lengths = torch.tensor(LENGTHS)
    labels = {"END": lengths[:, None] - 1, "START": torch.zeros(len(LENGTHS), 1, dtype=torch.long)}
    answers = torch.tensor([[7, 8, 9, 10, 11], [17, 18, 19, 20, 21]])
    return Prompts(tokens, lengths, labels, ("a",) * len(LENGTHS), *answers)


def column(place: int) -> Tensor:
    """The same position in every prompt."""
    return torch.full((len(LENGTHS), 1), place)


def patched(run: Run, source: Run, site: Site, place: int | None = None) -> Cell:
    """The site as it is in another run, at one position or everywhere."""
    value = source.at(site)
    if place is None:
        return Cell.of(replace(site, value))
    return Cell.of(replace(site, value[:, [place]], column(place)))


def many_cells(run: Run, source: Run) -> list[Cell]:
    """Cells that enter at every layer, at several positions, some by more than one change."""
    heads = [Head(layer, head) for layer in range(run.layers) for head in range(2)]
    cells = [Cell.of(scale(z(head), 0.0)) for head in heads]
    cells += [patched(run, source, resid_pre(n), p) for n in range(run.layers) for p in (0, 2, 3)]
    cells += [patched(run, source, Site("mlp_out", n)) for n in range(run.layers)]
    cells += [patched(run, source, Site(kind, 1, 0), 2) for kind in ("q", "k", "v", "pattern")]
    vector = torch.ones_like(run.pre[0][:, :1])
    both = add(resid_pre(0), vector, column(1)), scale(Site("neurons", 1), 0.5, column(3))
    return [*cells, Cell.of(*both)]
