"""The residual stream patched layer by layer and place by place, as cells of one sweep."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.engine.changes import Cell, Site, add, inside, replace, resid_pre
from claimlens.circuits.engine.read import Metric, read_out_of
from claimlens.circuits.engine.run import Run, check_source, intact_run
from claimlens.circuits.engine.sweep import Sweep
from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.parts import Prompts


@dataclass(frozen=True, eq=False)
class Grid:
    """Which layers and places are patched from clean into corrupted; no places: every index.

    Layer `depth` is the stream after the last block.
    """

    clean: Prompts
    corrupted: Prompts
    layers: tuple[int, ...]
    places: tuple[str, ...] | None
    depth: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the places."""
        return self.places or tuple(map(str, range(self.clean.tokens.shape[1])))

    def at(self, name: str) -> tuple[Int[Tensor, "batch slot"], Int[Tensor, "batch slot"]]:
        """Where a place is in the clean and in the corrupted prompts."""
        if self.places is None:
            column = inside(
                torch.full_like(self.clean.tokens[:, :1], int(name)), self.clean.lengths
            )
            return column, column
        return self.clean.at(name), self.corrupted.at(name)


def patched_by_engine(
    model: Model, grid: Grid, metric: Metric
) -> tuple[Float[Tensor, "batch layer place"], Float[Tensor, " batch"]]:
    """Effects and gap, as `patch_residual` returns them."""
    read, read_clean = read_out_of(metric, grid.corrupted), read_out_of(metric, grid.clean)
    run, source = intact_run(model, grid.corrupted), intact_run(model, grid.clean)
    check_source(run, source)
    cells = [_cell(run, source, grid, layer, name) for layer in grid.layers for name in grid.names]
    swept = Sweep(run, cells, read, "patch_residual")
    before = swept.intact()[:, 0]
    effect = rearrange(
        swept.result()[..., 0] - before,
        "(layer place) batch -> batch layer place",
        layer=len(grid.layers),
    )
    return effect, Sweep(source, [], read_clean).intact()[:, 0] - before


def _cell(run: Run, source: Run, grid: Grid, layer: int, name: str) -> Cell:
    """One patch; where both runs are equal anyway, nothing changing is the result."""
    here, there = grid.at(name)
    rows = torch.arange(len(here), device=here.device)[:, None]
    value = source.pre[layer][rows, here]
    if layer < run.layers:
        return Cell.of(replace(resid_pre(layer), value, there, noop=True))
    change = value - run.pre[layer][rows, there]  # behind the last block: as if its MLP wrote it
    return Cell.of(add(Site("mlp_out", layer - 1), change, there, noop=True))
