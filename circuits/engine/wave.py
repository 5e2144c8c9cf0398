"""Cells that begin at the same position, run through the layers side by side.

A cell joins at the layer where its change enters: later layers see more cells. Rows before the
first changed one are shared with the intact run, and the last layer is computed for the rows that
are read alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.engine.attention import Keys, attend, attend_changed_row, patterns, weighted
from claimlens.circuits.engine.changes import OF_HEADS, Change, Kind, Site
from claimlens.circuits.engine.entry import MLP, Entry, Note, added
from claimlens.circuits.engine.one_query import attend_unmade
from claimlens.circuits.engine.rows import queries, queries_keys_values, turned
from claimlens.circuits.engine.run import Run


@dataclass(eq=False)
class Wave:
    """Some cells in some prompts (`rows` of the sweep's) from position `start` on.

    `wanted` are the positions whose final stream is, in order, none before `start`; or a `site` is,
    of every row from `start` on, and layers behind it are not computed.
    """

    run: Run
    rows: Int[Tensor, " batch"]
    start: int
    wanted: Sequence[int]
    note: Note
    site: Site | None = None
    active: list[Entry] = field(default_factory=list)
    ahead: list[tuple[list[Entry], Tensor]] = field(default_factory=list)

    def finals(self, entries: Sequence[Entry]) -> Float[Tensor, "cell batch query d_model"]:
        """The final residual stream of each cell, or the activation at the site."""
        waiting = sorted(entries, key=lambda entry: entry.layer)
        stop = self.run.layers - 1 if self.site is None else self.site.layer
        x = self._empty(self.places)
        found = self._empty(self.read)
        for layer in range(waiting[0].layer, stop + 1):
            x, found = self._through(layer, x, [e for e in waiting if e.layer == layer])
        if self.site is None:
            found = self._joined(found, [e for e in waiting if e.layer > stop], self.wanted)
        order = {entry.number: place for place, entry in enumerate(self.active)}
        return found[[order[entry.number] for entry in entries]]

    @cached_property
    def span(self) -> range:
        """The positions that are computed."""
        return range(self.start, self.run.pre[0].shape[1])

    @cached_property
    def places(self) -> Int[Tensor, " row"]:
        """The same, where the model is."""
        return torch.arange(self.start, self.run.pre[0].shape[1], device=self.rows.device)

    @cached_property
    def read(self) -> Int[Tensor, " query"]:
        """The wanted positions, where the model is."""
        return torch.tensor(self.wanted, dtype=self.rows.dtype, device=self.rows.device)

    def _through(
        self, layer: int, x: Tensor, joining: Sequence[Entry]
    ) -> tuple[Float[Tensor, "cell batch row d_model"], Float[Tensor, "cell batch query *rest"]]:
        """The stream behind a layer, of more cells than before it, and what is read of it."""
        last = self.site is None and layer == self.run.layers - 1
        places = self.read if last else self.places
        before = [entry for entry in joining if entry.stage == "pre"]
        one_row = [e for e in before if e.changes_one_row(layer) and not self._reads(layer)]
        x = self._joined(x, [e for e in before if e not in one_row], self.span)
        self._change("resid_pre", layer, x, self.places)
        if self.site is not None and self._reads(layer):
            return x, self._at(self.site, x)
        out = self._attention(layer, x, places)
        stream = x[:, :, places - self.start] if last else x
        if one_row:
            self.ahead.append((one_row, self._row(one_row, self.run.pre[layer])))
        for entries, changed in self.ahead:
            stream, out = self._short(layer, stream, out, entries, changed, places)
        self.ahead.clear()
        if self.run.weights.parallel:
            after = stream + out + self._mlp(layer, stream, places)
        else:
            mid = stream + out
            between = [entry for entry in joining if entry.stage == "mid"]
            one_row = [e for e in between if not last and self._goes_ahead(e, layer)]
            rest = [e for e in between if e not in one_row]
            mid = self._joined(mid, rest, self.wanted if last else self.span, layer)
            if one_row:
                self.ahead.append((one_row, self._row_behind_mlp(one_row, layer)))
            after = mid + self._mlp(layer, mid, places)
        return after, after

    def _reads(self, layer: int) -> bool:
        return self.site is not None and self.site.layer == layer

    def _goes_ahead(self, entry: Entry, layer: int) -> bool:
        """Whether only one row of it need go through this layer's MLP."""
        changes = entry.changes_one_row(layer + 1) and not entry.cell.at(layer, *MLP)
        return changes and not self._reads(layer + 1)

    def _row(
        self, entries: Sequence[Entry], intact: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "cell batch 1 d_model"]:
        """The one row of each cell that is another than the intact one."""
        return intact[:, self.places[:1]] + added(entries, self.run, [self.start])

    def _row_behind_mlp(
        self, entries: Sequence[Entry], layer: int
    ) -> Float[Tensor, "cell batch 1 d_model"]:
        parts, mid = self.run.weights.layers[layer], self._row(entries, self.run.mid(layer))
        return mid + parts.mlp(mid)

    def _short(
        self,
        layer: int,
        stream: Tensor,
        out: Tensor,
        entries: list[Entry],
        changed: Float[Tensor, "cell batch 1 d_model"],
        places: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Cells that change one row before a layer: only its query, key and value are new."""
        run, parts, row = self.run, self.run.weights.layers[layer], self.places[:1]
        q, k, v = turned(
            self.run.rotary, queries_keys_values(run.weights, layer, changed), row, row
        )
        everything = Keys(run.turned_k[layer], run.v[layer], k, v, run.weights.narrow)
        new = (q[:, :, 0], k[:, :, 0], v[:, :, 0])
        shared = run.turned_q[layer][:, places]
        own = places is self.places or self.wanted[:1] == [self.start]
        z = attend_changed_row(shared, everything, places, self.start, new, own)
        joined = repeat(run.pre[layer][:, places], "... -> cell ...", cell=len(entries)).clone()
        if own:
            joined[:, :, :1] = changed
        self.active += entries
        written = parts.o(rearrange(z, "c b row head e -> c b row (head e)"))
        return torch.cat([stream, joined]), torch.cat([out, written])

    def _joined(
        self, x: Tensor, entries: Sequence[Entry], places: Sequence[int], mid: int | None = None
    ) -> Float[Tensor, "cell batch row d_model"]:
        """The stream with more cells behind those that it has; `mid`: between a layer's halves."""
        if not entries:
            return x
        self.active += entries
        intact = self.run.pre[entries[0].layer] if mid is None else self.run.mid(mid)
        rows = self.places if places is self.span else self.read
        joined = added(entries, self.run, places) + intact[:, rows]
        return torch.cat([x, joined]) if len(x) else joined

    def _empty(self, places: Tensor) -> Float[Tensor, "0 batch row d_model"]:
        return self.run.pre[0][:, places][None][:0]

    def _attention(
        self, layer: int, x: Tensor, places: Tensor
    ) -> Float[Tensor, "cell batch query d_model"]:
        """What attention writes, changes made on the way."""
        if not len(x):
            return self._empty(places)
        z = self._z(layer, x, places)
        flat = rearrange(z, "cell batch row head e -> cell batch row (head e)")
        out = self.run.weights.layers[layer].o(flat)
        self._change("attn_out", layer, out, places)
        return out

    def _z(self, layer: int, x: Tensor, places: Tensor) -> Tensor:
        """z of every head, changes made on the way."""
        if self._asks_once(layer, places):
            return self._z_of_one(layer, x, places)
        made = self._qkv(layer, x, self.places, places)
        q, k, v = turned(self.run.rotary, made, self.places, places)
        keys = self.run.behind(layer, self.start, k, v)
        z = attend(q, keys, places)
        for place, _ in self._with("pattern", layer):
            one = slice(place, place + 1)
            own = Keys(keys.shared_k, keys.shared_v, keys.k[one], keys.v[one], keys.narrow)
            z[one] = weighted(self._pattern(layer, place, q[one], own, places), own)
        self._change("z", layer, z, places)
        return z

    def _asks_once(self, layer: int, places: Tensor) -> bool:
        """Whether keys and values serve one query alone, and nobody asks for them."""
        asked = any(e.coming(layer, "k", "v", "pattern") for e in self.active)
        one = places is not self.places and self.wanted == [self.span[-1]] != [self.start]
        return one and self.run.rotary is None and not asked

    def _z_of_one(self, layer: int, x: Tensor, places: Tensor) -> Tensor:
        """The same where the last row alone asks."""
        weights, read = self.run.weights, self.run.weights.layers[layer].ln1(x)
        q = queries(weights, layer, read[:, :, -1:])
        self._change("q", layer, q, places)
        z = attend_unmade(q, read, self.run, layer, self.start)
        self._change("z", layer, z, places)
        return z

    def _pattern(
        self, layer: int, place: int, q: Tensor, keys: Keys, places: Tensor
    ) -> Float[Tensor, "1 batch head query src"]:
        """The pattern of one cell, changes made."""
        pattern = patterns(q, keys, places)
        for change in self.active[place].cell.at(layer, "pattern"):
            self._change_one(change, pattern[0, :, change.site.head], places)
        return pattern

    def _qkv(
        self, layer: int, x: Tensor, places: Tensor, queries: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of some rows, keys and values of all, before positions are applied; changes made
        on the way."""
        q, k, v = queries_keys_values(
            self.run.weights, layer, x, None if queries is places else queries - places[0]
        )
        self._change("q", layer, q, queries)
        self._change("k", layer, k, places)
        self._change("v", layer, v, places)
        return q, k, v

    def _mlp(self, layer: int, mid: Tensor, places: Tensor) -> Tensor:
        """What the MLP writes, changes made on the way."""
        parts = self.run.weights.layers[layer]
        out = parts.mlp(mid)
        for place, _ in self._with("neurons", layer):
            neurons = parts.neurons(parts.ln2(mid[place : place + 1]))
            self._change_of(place, "neurons", layer, neurons, places)
            out[place] = parts.w_out(neurons)[0]
        self._change("mlp_out", layer, out, places)
        return out

    def _with(self, kind: Kind, layer: int) -> list[tuple[int, Entry]]:
        return [(i, e) for i, e in enumerate(self.active) if e.coming(layer, kind)]

    def _change(self, kind: Kind, layer: int, x: Tensor, places: Tensor) -> None:
        """Make the cells' changes of one site, in place."""
        for place, _ in self._with(kind, layer):
            if place < len(x):
                self._change_of(place, kind, layer, x[place : place + 1], places)

    def _change_of(self, place: int, kind: Kind, layer: int, x: Tensor, places: Tensor) -> None:
        for change in self.active[place].cell.at(layer, kind):
            self._change_one(
                change, x[0][:, :, change.site.head] if kind in OF_HEADS else x[0], places
            )

    def _change_one(self, change: Change, old: Tensor, places: Tensor) -> None:
        new = change.applied(old, self.rows, places)
        if not change.noop:
            self.note(change, (new != old).any())
        old.copy_(new)

    def _at(self, site: Site, x: Tensor) -> Float[Tensor, "cell batch row *rest"]:
        """The activation at a site of a layer, of the cells that stand before that layer."""
        layer, places = site.layer, self.places
        if site.kind == "resid_pre":
            return x
        if site.kind in ("q", "k", "v"):
            return self._qkv(layer, x, places, places)["qkv".index(site.kind)][:, :, :, site.head]
        if site.kind == "z":
            return self._z(layer, x, places)[:, :, :, site.head]
        if site.kind == "pattern":
            return self._patterns(layer, x)[:, :, site.head or 0]
        out = self._attention(layer, x, places)
        if site.kind == "attn_out":
            return out
        mid = x if self.run.weights.parallel else x + out
        of = self._neurons if site.kind == "neurons" else self._mlp
        return of(layer, mid, places)

    def _patterns(self, layer: int, x: Tensor) -> Float[Tensor, "cell batch head row src"]:
        """The pattern of every cell."""
        made = self._qkv(layer, x, self.places, self.places)
        q, k, v = turned(self.run.rotary, made, self.places, self.places)
        keys = self.run.behind(layer, self.start, k, v)
        found = patterns(q, keys, self.places)
        for place, entry in self._with("pattern", layer):
            for change in entry.cell.at(layer, "pattern"):
                self._change_one(change, found[place][:, change.site.head], self.places)
        return found

    def _neurons(
        self, layer: int, mid: Tensor, places: Tensor
    ) -> Float[Tensor, "cell batch row d_mlp"]:
        """The neurons of every cell."""
        parts = self.run.weights.layers[layer]
        found = parts.neurons(parts.ln2(mid))
        self._change("neurons", layer, found, places)
        return found
