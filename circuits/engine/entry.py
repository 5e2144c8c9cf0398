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
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from claimlens.circuits.engine.changes import KINDS, Cell, Change, Kind
from claimlens.circuits.engine.heads import attended_anew
from claimlens.circuits.engine.run import Run

Stage = Literal["pre", "mid"]
ATTENTION: tuple[Kind, ...] = ("q", "k", "v", "pattern", "z", "attn_out")
MLP: tuple[Kind, ...] = ("neurons", "mlp_out")
Note = Callable[[Change, Bool[Tensor, ""]], None]
"""Told of each change that must change its site whether it did."""
Parts = tuple[tuple[int | None, Float[Tensor, "batch span ..."]], ...]
"""What is added to a stream: vectors, or changes of one head's z, which W_O has yet to map."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A cell of a sweep in some prompts: at which layer and stage it joins, and with what.

    `parts` are what is added to the intact stream from position `first` on; `where` says which rows
    of them are not zero. `later`: the cell makes other changes further on. `touches`: anything is
    different in its run at all.
    """

    number: int
    cell: Cell
    layer: int
    stage: Stage
    first: int
    parts: Parts
    where: Bool[Tensor, "batch span"]
    later: bool
    touches: bool

    def changes_one_row(self, layer: int) -> bool:
        """Whether it changes one row of the stream before a layer, and nothing in its attention."""
        return self.where.shape[1] == 1 and not self.coming(layer, "resid_pre", *ATTENTION)

    def coming(self, layer: int, *kinds: Kind) -> tuple[Change, ...]:
        """Its changes at these sites of a layer, without those of the stream it comes in by."""
        found = self.cell.at(layer, *kinds)
        return tuple(change for change in found if change.site.order > (self.cell.layer, 0))

    def at(self, places: Sequence[int]) -> Parts:
        """Its parts at these positions, in order; zeros where it adds nothing."""
        last = self.first + self.where.shape[1]
        inside = [place for place in places if self.first <= place < last]
        if len(inside) == last - self.first == len(places):
            return self.parts
        found = []
        for head, part in self.parts:
            here = part.new_zeros(part.shape[0], len(places), part.shape[2])
            if inside:
                put = places.index(inside[0])
                taken = [place - self.first for place in inside]
                in_order = taken[-1] - taken[0] == len(taken) - 1
                rows = slice(taken[0], taken[-1] + 1) if in_order else taken
                here[:, put : put + len(inside)] = part[:, rows]
            found.append((head, here))
        return tuple(found)

    def source(self) -> int:
        """The layer whose heads write what is added."""
        return self.layer if self.stage == "mid" else self.layer - 1


def reached(
    entries: Sequence[Entry], at: Int[Tensor, "batch slot"], layers: int
) -> Bool[Tensor, "cell batch slot"]:
    """Where the final streams of cells that begin at one position can be others: at a changed row,
    and behind one if attention is still to come. Everything else is the intact run's, to the bit.
    """
    index, span = at - entries[0].first, max(entry.where.shape[1] for entry in entries)
    where = torch.stack(
        [functional.pad(e.where, (0, span - e.where.shape[1])) for e in entries]
        if any(entry.where.shape[1] < span for entry in entries)
        else [entry.where for entry in entries]
    )
    of_each = [(e.later, e.layer < layers - (e.stage == "mid")) for e in entries]
    later, spreads = torch.tensor(of_each, device=at.device).T[..., None, None]
    rows = torch.where(spreads, where.cummax(2).values, where)
    found = rows.gather(2, index.clamp(0, span - 1).expand(len(entries), *index.shape))
    reaches: Tensor = (found & (spreads | (index < span)) | later) & (index >= 0)
    return reaches


def added(
    entries: Sequence[Entry], run: Run, places: Sequence[int]
) -> Float[Tensor, "cell batch row d_model"]:
    """What each entry adds to the intact stream at these positions."""
    each = [entry.at(places) for entry in entries]
    heads = [parts[0][0] for parts in each]
    if all(len(parts) == 1 and head is not None for parts, head in zip(each, heads, strict=True)):
        weights = [
            run.weights.output(e.source(), h or 0) for e, h in zip(entries, heads, strict=True)
        ]
        moved = torch.stack([parts[0][1] for parts in each])
        return einsum(moved, torch.stack(weights), "c b row e, c e d -> c b row d")
    return torch.stack([_mapped(run, e.source(), p) for e, p in zip(entries, each, strict=True)])


def _mapped(run: Run, layer: int, parts: Parts) -> Float[Tensor, "batch row d_model"]:
    """The sum of an entry's parts in the stream."""
    found = [part if h is None else part @ run.weights.output(layer, h) for h, part in parts]
    return torch.stack(found).sum(0) if len(found) > 1 else found[0]


def settled(drafts: Sequence[Draft]) -> list[Entry]:
    """Entries cut to the rows that are different: the device is asked once for all of them."""
    if not drafts:
        return []
    columns = torch.stack([draft.where.any(0) for draft in drafts]).tolist()
    return [draft.cut(row) for draft, row in zip(drafts, columns, strict=True)]


@dataclass(frozen=True, eq=False)
class Draft:
    """An entry at all positions. `begins`: the first that other changes of the cell may reach."""

    number: int
    cell: Cell
    layer: int
    stage: Stage
    parts: Parts
    where: Bool[Tensor, "batch pos"]
    begins: int | None

    def cut(self, columns: Sequence[bool]) -> Entry:
        """The entry, of the columns that are different in some prompt, or may come to be."""
        changed = [place for place, differs in enumerate(columns) if differs]
        later = self.begins is not None and self.begins < len(columns)
        starts = [*changed[:1], *([self.begins] if self.begins is not None else [])]
        first = min(starts, default=0)
        span = slice(first, max(changed[-1] + 1 if changed else 0, first + 1))
        parts = tuple((head, part[:, span]) for head, part in self.parts)
        where = self.where[:, span]
        touches = later or bool(changed)
        return Entry(
            self.number, self.cell, self.layer, self.stage, first, parts, where, later, touches
        )


def enter(number: int, cell: Cell, run: Run, rows: Int[Tensor, " batch"], note: Note) -> Draft:
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
) -> Draft:
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
            if not change.noop:
                self.note(change, (new != old).any())
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
    ) -> Draft:
        """Of the first layer's kinds of change the first `made` have been made; others later."""
        where = (parts[0][1] != 0).any(-1)
        for _, part in parts[1:]:
            where = where | (part != 0).any(-1)
        later = [c for c in self.cell.changes if c.site.order >= (self.layer, made)]
        begins = min((change.first(self.rows) for change in later), default=None)
        return Draft(number, self.cell, layer, stage, tuple(parts), where, begins)
