"""A vector injected into what heads read, at many scales: every readout of every scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.engine.policy import Unsupported, either
from claimlens.circuits.engine.queries import Injections
from claimlens.circuits.engine.run import intact_run
from claimlens.circuits.kernels.attention import Weight, attention_sum, parsed
from claimlens.circuits.kernels.cache import Model, cache, intact
from claimlens.circuits.kernels.memory import Memory, current, remembering
from claimlens.circuits.kernels.query_intervention import (
    Into,
    Norm,
    check_vector,
    inject,
    reads,
)
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Head, Position, Prompts

Readout = Callable[[Model, Prompts, Head], Float[Tensor, " batch"]]
"""What is read from a run with an intervention in the given head, one value per prompt."""
Swept = dict[str, Float[Tensor, "head scale batch"]]


@dataclass(frozen=True)
class AttentionReadout:
    """A signed sum of the head's attention, as `attention_sum` reads it."""

    terms: str
    dst: str | Position
    of: Weight

    def __call__(self, model: Model, prompts: Prompts, head: Head) -> Float[Tensor, " batch"]:
        """Read it from one run."""
        return attention_sum(model, prompts, head, self.terms, self.dst, self.of)


def sweep(
    model: Model,
    prompts: Prompts,
    heads: Sequence[Head],
    vector: Float[Tensor, "batch d_model"],
    scales: Sequence[float],
    readouts: Mapping[str, Readout] | None = None,
    *,
    into: Into = "query",
    at: str | Position = "END",
    norm: Norm = "free",
) -> Swept:
    """Each readout with scale x `vector` injected into each of `heads` alone, at every scale.

    Without readouts, the logit difference [logits], as in seed 000. By the engine for that and for
    `attention_readouts`: attention of a query needs no forward pass beyond the intact one. Readouts
    of your own, and models with other edits, take one run for each head and scale. Raises
    ValueError for a grid of fewer than two scales.
    """
    _check_grid(scales)
    if not heads:
        raise ValueError("no heads given; a sweep needs at least one to inject into")
    for scale in scales:
        check_vector(intact(model), prompts, vector, float(scale))
    for head in heads:
        reads(intact(model), head, into)
    asked = {"logit difference": _logit_diff} if readouts is None else readouts
    place = at if isinstance(at, Position) else Position.parse(at)
    grid = _Grid(prompts, heads, vector, scales, into, place, norm)
    return either(
        "query_sweep", lambda: _by_engine(model, grid, asked), lambda: _by_hooks(model, grid, asked)
    )


def attention_readouts(
    terms: Sequence[str], dst: str | Position = "END", of: Weight = "probability"
) -> dict[str, Readout]:
    """Readouts of the head's attention from `dst`, as `["IO", "S1", "S2", "IO-S1", "BOS"]`."""
    return {term: AttentionReadout(term, dst, of) for term in terms}


@dataclass(frozen=True, eq=False)
class _Grid:
    """What is injected into whom."""

    prompts: Prompts
    heads: Sequence[Head]
    vector: Float[Tensor, "batch d_model"]
    scales: Sequence[float]
    into: Into
    at: Position
    norm: Norm


def _by_hooks(model: Model, grid: _Grid, asked: Mapping[str, Readout]) -> Swept:
    """The plain form: one run for each head and scale, shared by all readouts."""
    prompts = grid.prompts
    read: dict[str, list[Tensor]] = {name: [] for name in asked}
    memory = current() or Memory()
    with remembering(memory):
        cache(intact(model), prompts)  # in which the others start
    for head in grid.heads:
        for scale in grid.scales:
            model_with = inject(
                model,
                prompts,
                head,
                grid.vector,
                float(scale),
                into=grid.into,
                at=grid.at,
                norm=grid.norm,
            )
            with remembering(memory):
                for name, readout in asked.items():
                    read[name].append(readout(model_with, prompts, head))
    shape = (len(grid.heads), len(grid.scales), len(prompts))
    return {name: torch.stack(values).reshape(shape) for name, values in read.items()}


def _by_engine(model: Model, grid: _Grid, asked: Mapping[str, Readout]) -> Swept:
    if grid.into != "query":
        raise Unsupported("keys injected into")
    run = intact_run(model, grid.prompts)
    found: dict[str, list[Tensor]] = {name: [] for name in asked}
    for head in grid.heads:
        injected = Injections(run, head, grid.vector, grid.scales, grid.at, grid.norm)
        for name, readout in asked.items():
            found[name].append(_read(injected, readout, grid))
    return {name: torch.stack(values) for name, values in found.items()}


def _read(injected: Injections, readout: Readout, grid: _Grid) -> Float[Tensor, "scale batch"]:
    if readout is _logit_diff:
        return injected.logit_diff()
    if not isinstance(readout, AttentionReadout):
        raise Unsupported("a readout of one's own")
    dst = readout.dst if isinstance(readout.dst, Position) else Position.parse(readout.dst)
    if dst != grid.at:
        raise Unsupported(f"attention from {dst}, the query being changed at {grid.at}")
    parts = [
        sign * injected.attention(grid.prompts.at(src), readout.of)
        for sign, src in parsed(readout.terms)
    ]
    return torch.stack(parts).sum(0)


def _check_grid(scales: Sequence[float]) -> None:
    if len(scales) < 2 or len(set(scales)) < len(scales):
        raise ValueError(
            f"a grid of scales {list(scales)}; expected two or more, all different. "
            "For a single scale use `inject`"
        )


def _logit_diff(model: Model, prompts: Prompts, head: Head) -> Float[Tensor, " batch"]:
    return logit_diff(model, prompts)
