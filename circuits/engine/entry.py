"""Where a cell's change enters the forward pass, and what is different there.

The cheapest state behind the first layer that it changes: the residual stream before a layer
("pre"), or between attention and MLP ("mid"). A head's change stays a change of its z until it is
needed: a few numbers a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from claimlens.circuits.engine.attention import Keys, patterns, weighted
from claimlens.circuits.engine.changes import KINDS, Cell, Change, Kind
from claimlens.circuits.engine.run import Run

Stage = Literal["pre", "mid"]
ATTENTION: tuple[Kind, ...] = ("q", "k", "v", "pattern", "z", "attn_out")
MLP: tuple[Kind, ...] = ("neurons", "mlp_out")
Note = Callable[[Change, bool], None]
"""Told of each change, whether it left its site other than it was."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A cell of a sweep in some prompts: at which layer and stage it joins, and with what.

    `parts` are what is added to the intact stream from position `first` on: vectors, or changes of
    one head's z, which W_O has yet to map; `where` says which rows of them are not zero. `later`:
    the cell makes other changes further on.
    """

    number: int
    cell: Cell
    layer: int
    stage: Stage
    first: int
    parts: tuple[tuple[int | None, Float[Tensor, "batch span d"]], ...]
    where: Bool[Tensor, "batch span"]
    later: bool

    @property
    def touches(self) -> bool:
        """Whether anything is different in its run at all."""
        return self.later or bool(self.where.any())

    def changes_one_row(self, layer: int) -> bool:
        """Whether it changes one row of the stream before a layer, and nothing in its attention."""
        return self.where.shape[1] == 1 and not self.coming(layer, "resid_pre", *ATTENTION)

    def reaches(self, at: Int[Tensor, "batch slot"], layers: int) -> Bool[Tensor, "batch slot"]:
        """Where the final stream can be another: at a changed row, and behind one if attention is
        still to come. Everything else is the intact run's, to the bit."""
        if self.later:
            return at >= self.first
        spreads = self.layer < layers - (self.stage == "mid")
        rows = self.where.cummax(1).values if spreads else self.where
        index, span = at - self.first, rows.shape[1]
        inside = (index >= 0) & (spreads | (index < span))
        return rows.gather(1, index.clamp(0, span - 1)) & inside

    def coming(self, layer: int, *kinds: Kind) -> tuple[Change, ...]:
        """Its changes at these sites of a layer, without those of the stream it comes in by."""
        found = self.cell.at(layer, *kinds)
        return tuple(change for change in found if change.site.order > (self.cell.layer, 0))

    def added(self, run: Run, places: Int[Tensor, " row"]) -> Float[Tensor, "batch row d_model"]:
        """What it adds to the intact stream at these positions."""
        total = torch.zeros_like(run.pre[0][:, : len(places)])
        for head, part in self.parts:
            inside = (places >= self.first) & (places < self.first + part.shape[1])
            here = part[:, places[inside] - self.first]
            if head is not None:
                here = here @ run.weights.output(self._source, head)
            total[:, inside] += here
        return total

    @property
    def _source(self) -> int:
        """The layer whose heads write what is added."""
        return self.layer if self.stage == "mid" else self.layer - 1


def enter(number: int, cell: Cell, run: Run, rows: Int[Tensor, " batch"], note: Note) -> Entry:
    """The entry of a cell into the run of some prompts (`rows` of the sweep's)."""
    here = _Here(run, cell, rows, note)
    if cell.at(cell.layer, "resid_pre"):
        return here.entry(number, cell.layer, "pre", [(None, here.stream())], 1)
    parts = here.attention() if here.attends else []
    if here.attends and not run.weights.parallel:
        return here.entry(number, cell.layer, "mid", parts, KINDS.index("neurons"))
    if cell.at(cell.layer, *MLP):
        parts = [*parts, (None, here.mlp())]
    return here.entry(number, cell.layer + 1, "pre", parts, len(KINDS))


def enter_whole(
    number: int, cell: Cell, run: Run, rows: Int[Tensor, " batch"], note: Note
) -> Entry:
    """The same before the first layer it changes, every activation of which is then computed."""
    here = _Here(run, cell, rows, note)
    return here.entry(number, cell.layer, "pre", [(None, here.stream())], 0)


@dataclass(frozen=True, eq=False)
class _Here:
    """The first layer that a cell changes, in the intact run of some prompts."""

    run: Run
    cell: Cell
    rows: Int[Tensor, " batch"]
    note: Note

    @property
    def layer(self) -> int:
        return self.cell.layer

    @property
    def places(self) -> Int[Tensor, " pos"]:
        return torch.arange(self.run.pre[0].shape[1], device=self.rows.device)

    @property
    def attends(self) -> bool:
        return bool(self.cell.at(self.layer, *ATTENTION))

    def applied(self, changes: Sequence[Change], old: Tensor) -> Tensor:
        """The site's value after these changes of it, one after the other."""
        for change in changes:
            new = change.applied(old, self.rows, self.places)
            self.note(change, not torch.equal(new, old))
            old = new
        return old

    def stream(self) -> Float[Tensor, "batch pos d_model"]:
        """What is added to the stream before the layer."""
        old = self.run.pre[self.layer]
        return self.applied(self.cell.at(self.layer, "resid_pre"), old) - old

    def attention(self) -> list[tuple[int | None, Tensor]]:
        """What is added to what attention writes, by head where it stays a change of z."""
        parts: list[tuple[int | None, Tensor]] = [
            (head, self.z(head) - self.run.z[self.layer][:, :, head]) for head in self.heads()
        ]
        whole = self.cell.at(self.layer, "attn_out")
        if not whole:
            return parts
        old = self.run.attn_out[self.layer]
        mapped = [part @ self.run.weights.output(self.layer, h or 0) for h, part in parts]
        return [(None, self.applied(whole, old + sum(mapped)) - old)]

    def heads(self) -> list[int]:
        """The query heads whose z is another one."""
        shared, found = self.run.weights.shared, set[int]()
        for change in self.cell.at(self.layer, "q", "pattern", "z"):
            found.add(change.site.head or 0)
        for change in self.cell.at(self.layer, "k", "v"):
            group = change.site.head or 0
            found.update(range(group * shared, (group + 1) * shared))
        return sorted(found)

    def z(self, head: int) -> Float[Tensor, "batch pos d_head"]:
        """z of one head."""
        old = self.run.z[self.layer][:, :, head]
        if self.cell.at(self.layer, "q", "k", "v", "pattern"):
            attended = attended_anew(self.run, self.cell, self.layer, head, self.applied)
            old = torch.where(attended.changed[..., None], attended.z, old)
        mine = [c for c in self.cell.at(self.layer, "z") if c.site.head == head]
        return self.applied(mine, old)

    def mlp(self) -> Float[Tensor, "batch pos d_model"]:
        """What is added to what the MLP writes, its input being the intact one."""
        layer, old = self.run.weights.layers[self.layer], self.run.mlp_out[self.layer]
        new = old
        if neurons := self.cell.at(self.layer, "neurons"):
            before = layer.neurons(layer.ln2(self.run.mid(self.layer)))
            new = old + (self.applied(neurons, before) - before) @ layer.w_out.weight
        return self.applied(self.cell.at(self.layer, "mlp_out"), new) - old

    def entry(
        self,
        number: int,
        layer: int,
        stage: Stage,
        parts: Sequence[tuple[int | None, Tensor]],
        made: int,
    ) -> Entry:
        """An entry that holds only the rows that are different in some prompt.

        Of the first layer's kinds of change the first `made` have been made; others come later.
        """
        where = torch.stack([(part != 0).any(-1) for _, part in parts]).any(0)
        columns = where.any(0).nonzero()[:, 0]
        first, last = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 1)
        if later := [c for c in self.cell.changes if c.site.order >= (self.layer, made)]:
            begins = min(change.first(self.rows) for change in later)
            first = min(first, begins) if len(columns) else begins
        span = slice(first, max(last, first + 1))
        cut = tuple((head, part[:, span]) for head, part in parts)
        inside = bool(later) and first < where.shape[1]
        return Entry(number, self.cell, layer, stage, first, cut, where[:, span], inside)


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
