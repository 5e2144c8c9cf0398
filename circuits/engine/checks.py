"""Whether a cell or a read-out fits model and prompts: asked before anything is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from claimlens.circuits.engine.changes import Cell, Change, Site
from claimlens.circuits.engine.read import Activation, ReadOut
from claimlens.circuits.engine.run import Run

Doubt = tuple[Bool[Tensor, ""], Callable[[], str]]
"""What may be wrong, and what to say of it: the device is asked once for all doubts."""


def check_cells(cells: Sequence[Cell], run: Run) -> None:
    """Raise ValueError for a site, a position or a value that the model or its prompts lack."""
    doubts = list[Doubt]()
    for cell in cells:
        for change in cell.changes:
            _check_site(change.site, run)
            if change.at is not None:
                doubts += _doubted_places(str(change.site), change.at, run, lowest=-1)
            if isinstance(change.value, Tensor):
                doubts += _doubted_value(change, change.value, run)
    _raise_first(doubts)


def _raise_first(doubts: Sequence[Doubt]) -> None:
    if doubts and bool(torch.stack([wrong for wrong, _ in doubts]).any()):
        raise ValueError(next(say() for wrong, say in doubts if bool(wrong)))


def check_read(read: ReadOut | Activation, run: Run) -> None:
    """The same for what is read."""
    if isinstance(read, Activation):
        _check_site(read.site, run)
    _raise_first(list(_doubted_places("the read-out", read.at, run, lowest=0)))


def _check_site(site: Site, run: Run) -> None:
    if not 0 <= site.layer < run.layers:
        raise ValueError(f"{site}: the model has {run.layers} layers, from 0")
    count = run.weights.groups if site.kind in ("k", "v") else run.weights.heads
    if site.head is not None and not 0 <= site.head < count:
        raise ValueError(f"{site}: a layer has {count} of them, from 0")


def _doubted_places(
    what: str, at: Int[Tensor, "batch slot"], run: Run, lowest: int
) -> Iterator[Doubt]:
    lengths = run.prompts.lengths
    if at.ndim != 2 or len(at) != len(lengths):
        raise ValueError(
            f"{what}: positions of shape {tuple(at.shape)}; expected [{len(lengths)}, slots]"
        )
    yield (
        ((at < lowest) | (at >= lengths[:, None])).any(),
        lambda: (
            f"{what}: a position past the end of its prompt; they are "
            f"{int(lengths.min())} to {int(lengths.max())} tokens long"
        ),
    )


def _doubted_value(change: Change, value: Tensor, run: Run) -> Iterator[Doubt]:
    batch, width = run.prompts.tokens.shape
    slots = width if change.at is None else change.at.shape[1]
    expected = (batch, slots, _size(change.site, run))
    if value.shape != expected:
        raise ValueError(
            f"{change.site}: a value of shape {tuple(value.shape)}, these prompts need {expected}; "
            "take both from the same pairs"
        )
    yield (
        ~torch.isfinite(value).all(),
        lambda: f"{change.site}: the value put there is not finite",
    )
    if change.site.kind == "pattern":
        yield (
            _looks_ahead(change, value),
            lambda: f"{change.site}: the value put there attends to later positions",
        )


def _looks_ahead(change: Change, value: Tensor) -> Bool[Tensor, ""]:
    """What is behind a position is never computed for it."""
    _, slots, width = value.shape
    own = torch.arange(slots, device=value.device)[None] if change.at is None else change.at
    behind = (torch.arange(width, device=value.device) > own[..., None]) & (own >= 0)[..., None]
    return (value.masked_fill(~behind, 0) != 0).any()


def _size(site: Site, run: Run) -> int:
    """Width of the activation at one position."""
    if site.kind == "pattern":
        return run.prompts.tokens.shape[1]
    if site.kind == "neurons":
        return run.weights.layers[site.layer].w_out.weight.shape[0]
    return run.pre[0].shape[-1] if site.head is None else run.weights.d_head
