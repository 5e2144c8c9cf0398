"""The plain twin of a sweep: every cell is a model edited at its hooks, run whole, and read.

It takes the same cells and read-outs as the engine and none of its code: a change is made position
by position, as its definition says, and whatever is read is read of all logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from claimlens.circuits.engine.changes import Cell, Change, Latents, Site
from claimlens.circuits.engine.read import Activation, LogitDiff, Logits, LogProbs, Losses, ReadOut
from claimlens.circuits.kernels.bridge import Bridge
from claimlens.circuits.kernels.cache import Edit, cache, edited
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotMeasured


class Unchanged(NotMeasured):
    """A change left its site as it was in every prompt.

    `first`: no other change of its cell stands before it, so that no rounding has a say in it.
    """

    def __init__(self, change: Change, first: bool) -> None:
        super().__init__(f"a change of {change.site} changed nothing")
        self.first = first


def swept(
    model: Bridge, prompts: Prompts, cells: Sequence[Cell], read: ReadOut | Activation
) -> Tensor:
    """What is read of each cell, "cell batch slot …".

    Raises Unchanged where a change that is not declared a no-op is one.
    """
    return torch.stack([measured(model, prompts, cell, read) for cell in cells])


def measured(model: Bridge, prompts: Prompts, cell: Cell, read: ReadOut | Activation) -> Tensor:
    """What is read of one cell, "batch slot …"."""
    made = [Made(change, prompts) for change in cell.changes]
    edits = [Edit(m.change.site.hook, m.apply, str(m.change.site), noop=True) for m in made]
    names = [read.site.hook] if isinstance(read, Activation) else []
    run = cache(edited(model, *edits), prompts, names)
    for one in made:
        if not (one.changed or one.change.noop):
            raise Unchanged(one.change, one is made[0])
    if isinstance(read, Activation):
        return taken(run[read.site.hook], read)
    logits = run.logits
    return torch.stack(
        [
            torch.stack([_value(read, logits[row, p], row, slot) for slot, p in enumerate(places)])
            for row, places in enumerate(read.at.tolist())
        ]
    )


class Made:
    """One change as a function of a hook's value; afterwards, whether it changed anything."""

    def __init__(self, change: Change, prompts: Prompts) -> None:
        self.change, self.changed = change, False
        self.lengths: list[int] = prompts.lengths.tolist()

    def apply(self, old: Tensor) -> Tensor:
        """The hook's value, changed at one site of it; padding does not count as changed."""
        whole = old.clone()
        before, new = of_site(old, self.change.site), of_site(whole, self.change.site)
        for row, length in enumerate(self.lengths):
            at = self.change.at
            places = range(before.shape[1]) if at is None else at[row].tolist()
            for slot, place in enumerate(places):
                if place >= 0:  # -1 is nowhere
                    new[row, place] = _new(self.change, before[row, place], row, slot)
            if not torch.equal(new[row, :length], before[row, :length]):
                self.changed = True
        return whole


def of_site(hooked: Tensor, site: Site) -> Tensor:
    """The part of a hook's value that is one site's, "batch pos …": a view."""
    if site.kind == "pattern":
        return hooked[:, site.head]
    return hooked if site.head is None else hooked[:, :, site.head]


def taken(hooked: Tensor, read: Activation) -> Tensor:
    """The activation at the read-out's positions."""
    rows = torch.arange(len(read.at))[:, None]
    return of_site(hooked, read.site)[rows, read.at]


def _new(change: Change, old: Tensor, row: int, slot: int) -> Tensor:
    """What becomes of the activation at one position of one prompt."""
    value = change.value
    if isinstance(value, Latents):
        latents, new = value.sae.encode(old), old
        for index in value.index:
            new = new + (value.factor - 1) * latents[index] * value.sae.W_dec[index]
        return new
    if not isinstance(value, Tensor):
        return value * old
    return value[row, slot] if change.how == "replace" else old + value[row, slot]


def _value(read: ReadOut, logits: Tensor, row: int, slot: int) -> Tensor:
    """A read-out of the logits at one position of one prompt."""
    match read:
        case LogitDiff():
            return logits[read.answer[row]] - logits[read.wrong[row]]
        case Logits():
            return logits[read.tokens[row]]
        case LogProbs():
            return logits.log_softmax(-1)
        case Losses():
            return -logits.log_softmax(-1)[read.tokens[row, slot]]
    raise TypeError(f"no twin of the read-out {type(read).__name__}")
