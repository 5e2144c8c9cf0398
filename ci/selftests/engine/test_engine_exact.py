"""The engine where the answer is known to the last bit, and however its work is cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests.engine.samples import (
    LENGTHS,
    column,
    many_cells,
    patched,
)
from claimlens.circuits.engine import sweep as engine
from claimlens.circuits.engine import wave, weights
from claimlens.circuits.engine.changes import (
    KINDS,
    OF_HEADS,
    Cell,
    Change,
    Site,
    replace,
    resid_pre,
    scale,
)
from claimlens.circuits.engine.entry import Entry
from claimlens.circuits.engine.policy import Policy, using
from claimlens.circuits.engine.read import Activation, LogitDiff, Logits, LogProbs, Losses, ReadOut
from claimlens.circuits.engine.run import Run, intact_run
from claimlens.circuits.engine.sweep import Sweep, sweep
from claimlens.circuits.kernels.cache import cache
from claimlens.circuits.parts import Prompts

SITES = [Site(kind, 1, 0 if kind in OF_HEADS else None) for kind in KINDS]
KEPT = ("resid_pre", "q", "k", "v", "z", "attn_out", "mlp_out")
"""Kinds of site that an intact run keeps; the others are computed where they are asked for."""
SMALL = 120_000
"""Bytes: about one prompt of these at a time."""


def some_places() -> Tensor:
    """Two positions of each prompt, the second its last."""
    return torch.tensor([[n // 2, n - 1] for n in LENGTHS])


def read_outs(prompts: Prompts) -> list[ReadOut]:
    at, tokens = some_places(), prompts.tokens[:, :2]
    return [LogitDiff.of(prompts), Logits(tokens, at), Losses(tokens, at), LogProbs(at)]


@pytest.mark.parametrize("site", SITES, ids=str)
def test_the_intact_run_is_what_the_hooks_show(
    site: Site, model: Any, prompts: Prompts, run: Run
) -> None:
    hooked = cache(model, prompts, [site.hook])[site.hook]
    if site.head is not None:
        hooked = hooked[:, 0] if site.kind == "pattern" else hooked[:, :, 0]
    for row, length in enumerate(LENGTHS):
        found = run.at(site)[row, :length]
        torch.testing.assert_close(found, hooked[row, :length], atol=1e-12, rtol=0)


@pytest.mark.parametrize("site", SITES, ids=str)
def test_a_cell_that_changes_nothing_is_the_intact_run(
    site: Site, prompts: Prompts, run: Run
) -> None:
    cells = [Cell.of(scale(site, 1.0, noop=True)), Cell.of(scale(site, 1.0, column(2), noop=True))]
    if site.kind in KEPT:
        cells.append(Cell.of(replace(site, run.at(site), noop=True)))
    for read in read_outs(prompts):
        found = Sweep(run, cells, read)
        assert torch.equal(found.result(), found.intact().expand(found.values.shape))


@pytest.mark.parametrize("site", [site for site in SITES if site.kind not in KEPT], ids=str)
def test_what_is_computed_anew_is_the_same_but_for_rounding(
    site: Site, prompts: Prompts, run: Run
) -> None:
    found = Sweep(run, [Cell.of(replace(site, run.at(site), noop=True))], LogProbs(some_places()))
    wanted = found.intact().expand(found.values.shape)
    torch.testing.assert_close(found.result(), wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("site", SITES, ids=str)
def test_what_stands_before_a_change_is_intact(
    site: Site, prompts: Prompts, run: Run, source: Run
) -> None:
    at = torch.tensor([[0, 1, 2, n - 1] for n in LENGTHS])
    early = dataclasses.replace(site, layer=0)
    found = Sweep(run, [patched(run, source, early, 2)], Logits(prompts.tokens[:, :3], at))
    assert torch.equal(found.result()[0, :, :2], found.intact()[:, :2])
    assert not torch.isclose(found.values[0], found.intact())[:, 2:].any()


def test_prompts_that_a_cell_does_not_touch_are_intact(
    prompts: Prompts, run: Run, source: Run
) -> None:
    value = run.at(resid_pre(1)).clone()
    value[1] = source.at(resid_pre(1))[1]
    cells = [Cell.of(replace(resid_pre(1), value)), patched(run, source, resid_pre(1))]
    found = Sweep(run, cells, LogitDiff.of(prompts))
    changed = (found.result() != found.intact())[..., 0]
    assert changed.tolist() == [[row == 1 for row in range(len(LENGTHS))], [True] * len(LENGTHS)]


def test_the_whole_stream_of_another_run_is_that_run(
    prompts: Prompts, run: Run, source: Run
) -> None:
    cells = [patched(run, source, resid_pre(layer)) for layer in range(run.layers)]
    for read in read_outs(prompts):
        found = sweep(run, cells, read)
        other = Sweep(source, cells, read).intact()
        torch.testing.assert_close(found, other.expand(found.shape), atol=1e-9, rtol=0)
        assert not torch.allclose(found, Sweep(run, cells, read).intact(), atol=1e-3)


@pytest.mark.parametrize("bound", ["max_bytes", "MAX_ROWS", "MLP_ROWS"])
def test_however_the_work_is_cut_the_values_are_the_same(
    bound: str, prompts: Prompts, run: Run, source: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, at = many_cells(run, source), some_places()
    reads: list[ReadOut | Activation] = [LogitDiff.of(prompts), LogProbs(at)]
    reads += [Activation(site, at) for site in SITES[3:5]]
    whole = [sweep(run, cells, read) for read in reads]
    few = Policy(max_bytes=SMALL) if bound == "max_bytes" else Policy()
    monkeypatch.setattr(engine, "MAX_ROWS", 10 if bound == "MAX_ROWS" else engine.MAX_ROWS)
    monkeypatch.setattr(weights, "MLP_ROWS", 3 if bound == "MLP_ROWS" else weights.MLP_ROWS)
    with using(few):
        for read, wanted in zip(reads, whole, strict=True):
            torch.testing.assert_close(sweep(run, cells, read), wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("after", [1, 2, 5, 9])
def test_an_interrupted_sweep_goes_on_where_it_was(
    after: int, prompts: Prompts, run: Run, source: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, read = many_cells(run, source), LogitDiff.of(prompts)
    measured = counted_cells(monkeypatch)
    with using(Policy(max_bytes=SMALL)):
        wanted = sweep(run, cells, read)
    at_once, again = sum(measured), Sweep(run, cells, read)
    measured.clear()
    with using(Policy(max_bytes=SMALL, progress=Stopped(after))), pytest.raises(KeyboardInterrupt):
        again.result()
    assert not bool(again.finished.all())
    assert sum(measured) < at_once
    with using(Policy(max_bytes=SMALL)):
        assert torch.equal(again.result(), wanted)
    assert sum(measured) == at_once
    assert torch.equal(again.result(), wanted)
    assert sum(measured) == at_once


def counted_cells(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many cells each block measures from here on, times its prompts."""
    counts: list[int] = []
    finals = wave.Wave.finals

    def counting(self: wave.Wave, entries: Sequence[Entry]) -> Tensor:
        counts.append(len(entries) * len(self.rows))
        return finals(self, entries)

    monkeypatch.setattr(wave.Wave, "finals", counting)
    return counts


class Stopped:
    """Progress that interrupts after some blocks."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, name: str, done: int, whole: int) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_prompts_of_several_lengths_are_each_prompt_alone(
    model: Any, prompts: Prompts, run: Run, source: Run
) -> None:
    cells = many_cells(run, source)
    together = sweep(run, cells, LogitDiff.of(prompts))
    for row in range(len(LENGTHS)):
        one = alone(prompts, row)
        found = sweep(
            intact_run(model, one), [of_row(cell, row) for cell in cells], LogitDiff.of(one)
        )
        torch.testing.assert_close(found[:, 0], together[:, row], atol=1e-9, rtol=0)


def alone(prompts: Prompts, row: int) -> Prompts:
    """One prompt without padding."""
    one = prompts.select(torch.tensor([row]))
    return dataclasses.replace(one, tokens=one.tokens[:, : LENGTHS[row]])


def of_row(cell: Cell, row: int) -> Cell:
    """The same cell for one prompt without padding."""
    return Cell(tuple(_of_row(change, row, LENGTHS[row]) for change in cell.changes))


def _of_row(change: Change, row: int, length: int) -> Change:
    value, at = change.value, None if change.at is None else change.at[row : row + 1]
    if isinstance(value, Tensor):
        value = value[row : row + 1] if at is not None else value[row : row + 1, :length]
        value = value[..., :length] if change.site.kind == "pattern" else value
    return dataclasses.replace(change, value=value, at=at)
