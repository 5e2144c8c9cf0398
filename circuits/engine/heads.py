"""One head of the intact run with other queries, keys, values or another pattern."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from claimlens.circuits.engine.attention import Keys, patterns, weighted
from claimlens.circuits.engine.changes import Cell, Change
from claimlens.circuits.engine.run import Run


@dataclass(frozen=True, eq=False)
class Attended:
    """One head's attention with changed queries, keys, values or pattern; where it is another."""

    pattern: Float[Tensor, "batch dst src"]
    z: Float[Tensor, "batch dst d_head"]
    changed: Bool[Tensor, "batch dst"]


def attended_anew(
    run: Run,
    cell: Cell,
    layer: int,
    head: int,
    applied: Callable[[Sequence[Change], Tensor], Tensor],
) -> Attended:
    """What one head of the intact run attends to after a cell's changes of it."""
    group = head // run.weights.shared
    places = torch.arange(run.pre[0].shape[1], device=run.pre[0].device)

    def mine(kind: Literal["q", "k", "v", "pattern"], whose: int) -> list[Change]:
        return [c for c in cell.at(layer, kind) if c.site.head == whose]

    new, changed = {}, {}
    for kind, whose in (("q", head), ("k", group), ("v", group)):
        old: Tensor = getattr(run, kind)[layer][:, :, whose]
        new[kind] = applied(mine(kind, whose), old)  # type: ignore[arg-type]  # one of the three
        changed[kind] = (new[kind] != old).any(-1)
    q, k, v = (new[kind][None, :, :, None] for kind in "qkv")
    if run.rotary is not None:
        q, k = run.rotary(q, places), run.rotary(k, places)
    keys = Keys(k[0, :, :0], v[0, :, :0], k, v, run.weights.narrow)
    before = patterns(q, keys, places)[0, :, 0]
    pattern = applied(mine("pattern", head), before)
    behind = (changed["k"] | changed["v"]).int().cummax(1).values.bool()
    where = changed["q"] | behind | (pattern != before).any(-1)
    return Attended(pattern, weighted(pattern[None, :, None], keys)[0, :, :, 0], where)
