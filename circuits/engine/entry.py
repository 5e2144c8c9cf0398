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
from claimlens.circuits.engine.changes import Cell, Change
from claimlens.circuits.engine.run import Run

Stage = Literal["pre", "mid"]
Note = Callable[[Change, bool], None]
"""Told of each change, whether it left its site other than it was."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A cell of a sweep in some prompts: at which layer and stage it joins, and with what.

    `parts` are what is added to the intact stream from position `first` on: vectors, or changes of
    one head's z, which W_O has yet to map. Prompts that are not `touched` stay as they are.
    """

    number: int
    cell: Cell
    layer: int
    stage: Stage
    first: int
    parts: tuple[tuple[int | None, Float[Tensor, "batch span d"]], ...]
    touched: Bool[Tensor, " batch"]

    @property
    def row(self) -> int | None:
        """The only position that it changes in the stream before its layer, if it is one."""
        one = self.stage == "pre" and len(self.parts) == 1 and self.parts[0][1].shape[1] == 1
        here = self.cell.at(self.layer, "q", "k", "v", "pattern", "z", "attn_out")
        return self.first if one and not here else None

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
        return here.entry(number, cell.layer, "pre", [(None, here.stream())])
    parts = here.attention() if here.attends else []
    if here.attends and not run.weights.parallel:
        return here.entry(number, cell.layer, "mid", parts)
    if cell.at(cell.layer, "neurons", "mlp_out"):
        parts = [*parts, (None, here.mlp())]
    return here.entry(number, cell.layer + 1, "pre", parts)


def enter_whole(
    number: int, cell: Cell, run: Run, rows: Int[Tensor, " batch"], note: Note
) -> Entry:
    """The same before the first layer it changes, every activation of which is then computed."""
    here, layer = _Here(run, cell, rows, note), cell.layer
    stream = here.stream()
    first = min(change.first(rows) for change in cell.changes)
    all_prompts = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    return Entry(number, cell, layer, "pre", first, ((None, stream[:, first:]),), all_prompts)


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
        return bool(self.cell.at(self.layer, "q", "k", "v", "pattern", "z", "attn_out"))

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
        self, number: int, layer: int, stage: Stage, parts: Sequence[tuple[int | None, Tensor]]
    ) -> Entry:
        """An entry that holds only the rows that are different in some prompt."""
        touched = torch.stack([(part != 0).any(-1) for _, part in parts]).any(0)
        columns = touched.any(0).nonzero()[:, 0]
        first, last = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 0)
        cut = tuple((head, part[:, first:last]) for head, part in parts)
        later = any(change.site.layer >= layer for change in self.cell.changes)
        if later and stage == "mid":
            later = bool(self.cell.later or self.cell.at(layer, "neurons", "mlp_out"))
        if later:
            first = self._reaching(first, len(columns) > 0)
            cut = tuple((head, part[:, first : max(last, first)]) for head, part in parts)
        prompts = torch.ones_like(touched[:, 0]) if later else touched.any(1)
        return Entry(number, self.cell, layer, stage, first, cut, prompts)

    def _reaching(self, first: int, changes: bool) -> int:
        """The first position of this and of all later changes."""
        later = [change.first(self.rows) for change in self.cell.changes]
        return min([*later, first]) if changes else min(later)


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
