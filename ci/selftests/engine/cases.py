"""Random sweeps for Hypothesis: what is drawn are small plain drafts, which `Case` turns into
cells and read-outs; tensors come from the drafts' seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as replaced
from functools import cache, cached_property
from typing import Any, Literal

import torch
from hypothesis import strategies as st
from torch import Tensor

from claimlens.ci.selftests.engine import models, twin_sweep
from claimlens.ci.selftests.engine.models import SHAPES, Dtype, Family, Shape
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.engine.changes import (
    KINDS,
    Cell,
    Change,
    Latents,
    Site,
    add,
    replace,
    scale,
    scale_latents,
)
from claimlens.circuits.engine.read import Activation, LogitDiff, Logits, LogProbs, Losses, ReadOut
from claimlens.circuits.engine.run import Run
from claimlens.circuits.kernels.cache import cache as hooked_run
from claimlens.circuits.kernels.memory import Cache
from claimlens.circuits.kernels.sae import Architecture
from claimlens.circuits.parts import Prompts
from claimlens.fixtures.default.words import VOCABULARY

PROMPT_SETS = 8
"""Of each model; each is run once."""
LATENTS = 9
How = Literal["source", "vector", "add", "scale", "latents"]
Reading = Literal["logit_diff", "logits", "losses", "log_probs", "activation"]


@dataclass(frozen=True)
class ChangeDraft:
    """A change of `site` in `slots` positions (0: everywhere)."""

    site: Site
    how: How
    slots: int
    factor: float
    sae: Architecture
    seed: int


@dataclass(frozen=True)
class ReadDraft:
    """A read-out at `slots` positions; `site` is that of an activation."""

    what: Reading
    site: Site
    slots: int
    seed: int


@dataclass(frozen=True)
class Ground:
    """Prompts of one model, other tokens of the same lengths, and what the hooks show of those."""

    shape: Shape
    prompts: Prompts
    source: Cache

    @property
    def bridge(self) -> Any:
        """The model in float64."""
        return models.bridge(self.shape, "float64")

    def places(self, slots: int, generator: torch.Generator) -> Tensor:
        """Positions inside each prompt, no two of them the same: as many as all prompts have."""
        lengths: list[int] = self.prompts.lengths.tolist()
        count = min(slots, *lengths)
        rows = [torch.randperm(n, generator=generator)[:count] for n in lengths]
        return torch.stack(rows)


@cache
def ground(shape: Shape, seed: int) -> Ground:
    """A few prompts of random number, tokens and lengths."""
    generator = torch.Generator().manual_seed(seed)

    def some(low: int, high: int, *size: int) -> Tensor:
        return torch.randint(low, high, size, generator=generator)

    batch, width = int(some(1, 5)), int(some(2, 15))
    lengths = some(2, width + 1, batch)
    tokens, others = some(0, len(VOCABULARY), 2, batch, width)
    answers = some(0, len(VOCABULARY), 2, batch)

    def prompts(tokens: Tensor) -> Prompts:
        end = {"END": (lengths - 1)[:, None]}
        return Prompts(tokens, lengths, end, ("",) * batch, *answers)

    names = [Site(kind, n, head).hook for n in range(shape.layers) for kind, head in _EVERY]
    run = hooked_run(models.bridge(shape, "float64"), prompts(others), names)
    return Ground(shape, prompts(tokens), run)


_EVERY = [(kind, 0 if kind in ("q", "k", "v", "pattern", "z") else None) for kind in KINDS]


@cache
def intact(shape: Shape, seed: int, dtype: Dtype) -> Run:
    """The engine's intact run of the prompts of `ground`."""
    return models.run(shape, dtype, ground(shape, seed).prompts)


@dataclass(frozen=True)
class Case:
    """One sweep: cells of one to three changes, on the prompts of one model, read in one way."""

    shape: Shape
    prompts: int
    drafts: tuple[tuple[ChangeDraft, ...], ...]
    reading: ReadDraft

    @property
    def ground(self) -> Ground:
        """The prompts."""
        return ground(self.shape, self.prompts)

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells in float64."""
        return [Cell.of(*_changes(drafts, self.ground)) for drafts in self.drafts]

    @cached_property
    def read(self) -> ReadOut | Activation:
        """The read-out."""
        return _read(self.reading, self.ground)


def cases(family: Family, *readings: Reading) -> st.SearchStrategy[Case]:
    """Random sweeps of one family's models."""
    shapes = [shape for shape in SHAPES if shape.family == family]
    return st.sampled_from(shapes).flatmap(lambda shape: _cases_of(shape, readings))


def as_noop(cell: Cell) -> Cell:
    """The same changes, none of which need change anything."""
    return Cell(tuple(replaced(change, noop=True) for change in cell.changes))


def in_float32(cell: Cell) -> Cell:
    """The same changes, every tensor in float32."""
    return Cell(tuple(_single(change) for change in cell.changes))


def _cases_of(shape: Shape, readings: tuple[Reading, ...]) -> st.SearchStrategy[Case]:
    sites, seeds = _sites(shape), st.integers(0, 2**16)
    changes = st.builds(
        ChangeDraft,
        sites,
        st.sampled_from(("source", "vector", "add", "scale", "latents")),
        st.integers(0, 3),
        st.sampled_from((0.0, 0.5, -1.5, 3.0)),
        st.sampled_from(("standard", "gated", "topk", "jumprelu")),
        seeds,
    )
    cells = st.lists(changes, min_size=1, max_size=3).map(tuple)
    return st.builds(
        Case,
        st.just(shape),
        st.integers(0, PROMPT_SETS - 1),
        st.lists(cells, min_size=1, max_size=3).map(tuple),
        st.builds(ReadDraft, st.sampled_from(readings), sites, st.integers(1, 3), seeds),
    )


def _sites(shape: Shape) -> st.SearchStrategy[Site]:
    """Every site of a model, each kind as often as another."""
    count = {"q": shape.heads, "z": shape.heads, "pattern": shape.heads}
    count |= {"k": shape.groups, "v": shape.groups}
    return st.sampled_from(
        [
            Site(kind, layer, head % count[kind] if kind in count else None)
            for kind in KINDS
            for layer in range(shape.layers)
            for head in range(shape.heads)
        ]
    )


def _changes(drafts: tuple[ChangeDraft, ...], here: Ground) -> Iterator[Change]:
    """The changes of a cell. One that puts back what an earlier one of the same cell leads to
    changes nothing but perhaps the last bit: a no-op, or not, by rounding."""
    for draft in drafts:
        led_to = draft.how == "source" and any(d.site.order < draft.site.order for d in drafts)
        yield replaced(_change(draft, here), noop=led_to)


def _change(draft: ChangeDraft, here: Ground) -> Change:
    generator = torch.Generator().manual_seed(draft.seed)
    at = here.places(draft.slots, generator) if draft.slots else None
    if at is not None and draft.seed % 3 == 0:  # nowhere in some prompt, or in some slot of it
        at = at.masked_fill(torch.rand(at.shape, generator=generator) < 0.3, -1)
    there = twin_sweep.of_site(here.source[draft.site.hook], draft.site)
    if draft.how == "scale" or (draft.how == "latents" and draft.site.head is not None):
        return scale(draft.site, draft.factor, at)
    if draft.how == "latents":
        width, hook = there.shape[-1], draft.site.hook
        sae = random_sae(draft.sae, hook, width, LATENTS, generator, k=4)
        chosen = torch.randperm(LATENTS, generator=generator)[:3].tolist()
        return scale_latents(sae, chosen, draft.factor, at)
    if draft.how != "source":
        there = torch.randn(there.shape, generator=generator, dtype=there.dtype)
        there = there.abs().tril() if draft.site.kind == "pattern" else there
    if at is not None:
        there = there[torch.arange(len(at))[:, None], at]
    return (add if draft.how == "add" else replace)(draft.site, there, at)


def _read(draft: ReadDraft, here: Ground) -> ReadOut | Activation:
    generator = torch.Generator().manual_seed(draft.seed)
    at, prompts = here.places(draft.slots, generator), here.prompts
    tokens = torch.randint(len(VOCABULARY), (len(at), 3), generator=generator)
    match draft.what:
        case "logit_diff":
            assert prompts.answer is not None
            assert prompts.wrong_answer is not None
            return LogitDiff(prompts.answer, prompts.wrong_answer, at)
        case "logits":
            return Logits(tokens, at)
        case "losses":
            return Losses(tokens[:, : at.shape[1]], at)
        case "log_probs":
            return LogProbs(at)
        case "activation":
            return Activation(draft.site, at)


def _single(change: Change) -> Change:
    value: Tensor | float | Latents = change.value
    if isinstance(value, Tensor):
        value = value.float()
    elif isinstance(value, Latents):
        value = Latents(value.sae.to(torch.float32), value.index, value.factor)
    return replaced(change, value=value)
