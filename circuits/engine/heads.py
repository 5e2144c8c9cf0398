"""One head of the intact run with other queries, keys, values or another pattern."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from claimlens.circuits.engine.attention import Keys, patterns, weighted
from claimlens.circuits.engine.changes import Cell, Change, Kind
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

    changed = torch.zeros_like(run.q[layer][..., 0, 0], dtype=torch.bool)

    def anew(kind: Kind, whose: int, old: Tensor) -> Tensor:
        """The site's new value; where it is another is noted, if there is a change of it."""
        nonlocal changed
        mine = [c for c in cell.at(layer, kind) if c.site.head == whose]
        if not mine:
            return old
        new = applied(mine, old)
        where = (new != old).any(-1)
        changed = changed | (where.int().cummax(1).values.bool() if kind in ("k", "v") else where)
        return new

    q = anew("q", head, run.q[layer][:, :, head])[None, :, :, None]
    k = anew("k", group, run.k[layer][:, :, group])[None, :, :, None]
    v = anew("v", group, run.v[layer][:, :, group])[None, :, :, None]
    if run.rotary is not None:
        q, k = run.rotary(q, places), run.rotary(k, places)
    keys = Keys(k[0, :, :0], v[0, :, :0], k, v, run.weights.narrow)
    before = patterns(q, keys, places)[0, :, 0]
    pattern = anew("pattern", head, before)
    return Attended(pattern, weighted(pattern[None, :, None], keys)[0, :, :, 0], changed)
