"""A sweep: many interventions on the same prompts, each read in the same way.

The plan: prompts that end at the same position go together, and of their cells those that begin at
the same position, in blocks that keep the memory bound. Whatever a cell leaves as it is has the
intact run's value, to the bit. `docs/engine.md` draws the plan of one example.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from claimlens.circuits.engine.changes import Cell, Change, Site
from claimlens.circuits.engine.checks import check_cells, check_read
from claimlens.circuits.engine.entry import Draft, Entry, enter, enter_whole, reached, settled
from claimlens.circuits.engine.policy import policy
from claimlens.circuits.engine.read import Activation, ReadOut
from claimlens.circuits.engine.run import Run, check_fresh
from claimlens.circuits.engine.wave import Wave
from claimlens.circuits.engine.weights import MLP_ROWS
from claimlens.circuits.verdict import NotMeasured

MAX_ROWS = 4096
"""Rows that go through a layer at a time: more gain nothing on a CPU, whatever memory there is; a
GPU takes twice as many."""


@dataclass(eq=False)
class Sweep:
    """Interventions on an intact run, and what is read of each.

    `result()` measures what is still missing: after an interruption, call it again. Raises
    NotMeasured where a change leaves its site as it was in every prompt (unless it is declared a
    no-op), where a result is not finite, and where the memory bound is too small for one prompt.
    """

    run: Run
    cells: Sequence[Cell]
    read: ReadOut | Activation
    name: str = "sweep"
    values: Float[Tensor, "cell batch slot *rest"] = field(init=False)
    finished: Bool[Tensor, "cell batch"] = field(init=False)
    noted: dict[int, list[Bool[Tensor, ""]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_cells(self.cells, self.run)
        check_read(self.read, self.run)
        check_fresh(self.run)
        intact = self.intact()
        self.values = intact.expand(len(self.cells), *intact.shape).clone()
        self.finished = torch.zeros(self.values.shape[:2], dtype=torch.bool)

    def intact(self) -> Float[Tensor, "batch slot *rest"]:
        """What is read of the run without changes."""
        at, rows = self.read.at, torch.arange(len(self.run.prompts))
        rows = rows.to(at.device)
        with torch.no_grad():
            if isinstance(self.read, Activation):
                return self.run.at(self.read.site)[rows[:, None], at]
            final = self.run.weights.final(self.run.pre[-1][rows[:, None], at])
            return self.read.read(self.run.weights, final[None], rows)[0]

    def result(self) -> Float[Tensor, "cell batch slot *rest"]:
        """All values; those that are there already are not measured again."""
        with torch.no_grad():
            for rows, width in self._prompts():
                self._measure(rows, width)
        self._check_changed()
        if not bool(torch.isfinite(self.values).all()):
            raise NotMeasured(f"{self.name}: a result is not finite; check the values put in")
        return self.values

    def _prompts(self) -> Iterator[tuple[Int[Tensor, " batch"], int]]:
        """Blocks of prompts whose last needed position is the same, and how many are needed."""
        ends = self.read.at.max(1).values
        for end in sorted(set(ends.tolist())):
            rows = (ends == end).nonzero()[:, 0]
            for block in torch.split(rows, self._rows_at_most() // (end + 1)):
                yield block, end + 1

    def _rows_at_most(self) -> int:
        """Rows of the residual stream that the memory bound allows at a time."""
        weights, bound = self.run.weights, policy().max_bytes
        longest = int(self.read.at.max()) + 1
        stream, neurons = self.run.pre[0], weights.layers[0].w_out.weight.shape[0]
        wide = 10 * stream.shape[-1] + 2 * weights.heads * longest
        block = 2 * MLP_ROWS * neurons
        rows = bound // stream.element_size() // (wide + 2 * neurons)
        if rows > MLP_ROWS:
            rows = (bound // stream.element_size() - block) // wide
        if rows < longest:
            raise NotMeasured(
                f"{self.name}: a memory bound of {bound:,} bytes is too small for one prompt of "
                f"{longest} tokens; it needs about "
                f"{longest * (wide + 2 * neurons) * stream.element_size():,}"
            )
        most = MAX_ROWS if stream.device.type == "cpu" else 2 * MAX_ROWS
        return max(longest, min(most, rows))

    def _measure(self, rows: Int[Tensor, " batch"], width: int) -> None:
        """All cells in some prompts."""
        part, waiting = self.run.part(rows, width), list[Entry]()
        missing = (~self.finished[:, rows.cpu()]).any(1).nonzero()[:, 0].tolist()
        stream = len(rows) * width * part.pre[0].shape[2] * part.pre[0].element_size()
        size = max(1, policy().max_bytes // 4 // stream)
        for first in range(0, len(missing), size):
            numbers = missing[first : first + size]
            waiting += settled([self._enter(n, self.cells[n], part, rows) for n in numbers])
        self._finish([entry.number for entry in waiting if not self._moves(entry)], rows)
        moving = [entry for entry in waiting if self._moves(entry)]
        for start in sorted({entry.first for entry in moving}):
            together = [entry for entry in moving if entry.first == start]
            size = max(1, self._rows_at_most() // (len(rows) * (width - start)))
            for first in range(0, len(together), size):
                self._block(part, rows, start, together[first : first + size])

    def _moves(self, entry: Entry) -> bool:
        """Whether anything that is read can be other than in the intact run."""
        upstream = isinstance(self.read, Activation) and self.read.site.layer < entry.layer
        return entry.touches and not upstream

    def _enter(self, number: int, cell: Cell, part: Run, rows: Tensor) -> Draft:
        site = self.read.site if isinstance(self.read, Activation) else None
        whole = site is not None and cell.changes[0].site.layer == site.layer
        return (enter_whole if whole else enter)(number, cell, part, rows, self._note)

    def _block(self, part: Run, rows: Tensor, start: int, entries: list[Entry]) -> None:
        at = self.read.at[rows]
        wanted = sorted({place for place in at.flatten().tolist() if place >= start})
        site = self.read.site if isinstance(self.read, Activation) else None
        wave = Wave(part, rows, start, wanted, self._note, site)
        if wanted:
            self._take(entries, wave.finals(entries), at, wave)
        self._finish([entry.number for entry in entries], rows)

    def _take(self, entries: list[Entry], found: Tensor, at: Tensor, wave: Wave) -> None:
        """Put what was found where rows and prompts were reached; all else is intact."""
        rows, places = wave.rows, wave.places if wave.site else wave.read
        slot = torch.searchsorted(places, at.contiguous()).clamp(max=len(places) - 1)
        batch = torch.arange(len(rows), device=rows.device)[:, None]
        taken = found[:, batch, slot]
        if isinstance(self.read, Activation) and self.read.site.kind == "pattern":
            taken = pad(taken, (0, self.values.shape[-1] - taken.shape[-1]))  # causal: zeros
        if not isinstance(self.read, Activation):
            taken = self.read.read(wave.run.weights, wave.run.weights.final(taken), rows)
        where = reached(entries, at, self.run.layers)
        cell, prompt, column = where.nonzero(as_tuple=True)
        numbers = torch.tensor([entry.number for entry in entries], device=rows.device)
        self.values[numbers[cell], rows[prompt], column] = taken[cell, prompt, column]

    def _finish(self, numbers: Sequence[int], rows: Tensor) -> None:
        self.finished[torch.tensor(numbers, dtype=torch.long)[:, None], rows.cpu()] = True
        if report := policy().progress:
            report(self.name, int(self.finished.sum()), self.finished.numel())

    def _note(self, change: Change, changed: Bool[Tensor, ""]) -> None:
        self.noted.setdefault(id(change), []).append(changed)

    def _check_changed(self) -> None:
        """The device is asked once for all that was noted."""
        any_of = [torch.stack(seen).any() for seen in self.noted.values()]
        found = torch.stack(any_of).tolist() if any_of else []
        changed = {key for key, was in zip(self.noted, found, strict=True) if was}
        for cell in self.cells:
            for change in cell.changes:
                noted = change.noop or id(change) in changed
                if not noted and not self._changes_unseen(change, change is cell.changes[0]):
                    raise NotMeasured(
                        f"{self.name}: a change of {change.site} left it as it was in every "
                        "prompt; declare it with noop=True if that is meant"
                    )

    def _changes_unseen(self, change: Change, first: bool) -> bool:
        """Whether it changes its site where the sweep had no need to compute it.

        The first change of a cell is tried on the intact run; one that stands on others is trusted.
        """
        unseen = self._unseen(change.site)
        if not first and change.at is None:
            return bool(unseen.any())
        if not first and change.at is not None:
            return bool((unseen.gather(1, change.at.clamp(0)) & (change.at >= 0)).any())
        old, places = self.run.at(change.site), torch.arange(unseen.shape[1], device=unseen.device)
        new = change.applied(old, torch.arange(len(old), device=unseen.device), places)
        return bool((new != old)[unseen].any())

    def _unseen(self, site: Site) -> Bool[Tensor, "batch pos"]:
        """Where a site is never computed: behind what is read; in the last layer, beside it."""
        prompts, read = self.run.prompts, self.read
        places = torch.arange(prompts.tokens.shape[1], device=prompts.tokens.device)
        unseen = places > read.at.max(1).values[:, None]
        if isinstance(read, Activation):
            unseen |= torch.tensor(read.site.order < site.order, device=places.device)
        elif site.layer == self.run.layers - 1 and site.kind not in ("resid_pre", "k", "v"):
            unseen = (places != read.at[..., None]).all(1)
        return unseen & (places < prompts.lengths[:, None])


def sweep(
    run: Run, cells: Sequence[Cell], read: ReadOut | Activation, name: str = "sweep"
) -> Float[Tensor, "cell batch slot *rest"]:
    """What is read of each intervention; see `Sweep`."""
    return Sweep(run, cells, read, name).result()
