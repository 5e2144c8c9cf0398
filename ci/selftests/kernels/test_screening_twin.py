"""Guessed effects against gradients through the plain twin, which knows no bridge and no hook."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import HEADS, agree, at, rows
from claimlens.ci.selftests.twin_paths import LOGITS, PathTwin, Read, Walk
from claimlens.circuits.kernels import edge_attribution as kernel
from claimlens.circuits.kernels.attribution_patching import attribution_patching
from claimlens.circuits.kernels.edge_attribution import Edge, edge_attribution, edges
from claimlens.circuits.metrics import answer_tokens
from claimlens.circuits.parts import Prompts

STEPS = (1, 2)


@pytest.fixture(scope="module")
def paths() -> PathTwin:
    return PathTwin(micro.random_model())


def sides(clean: Prompts, corrupted: Prompts) -> list[tuple[Tensor, Tensor, int, int]]:
    """Of each prompt: its tokens, those of its source, its answer and its wrong answer."""
    answers, wrongs = (ids.tolist() for ids in answer_tokens(clean))
    return list(zip(rows(clean), rows(corrupted), answers, wrongs, strict=True))


def difference(walk: Walk, answer: int, wrong: int) -> Tensor:
    return walk.logits[-1, answer] - walk.logits[-1, wrong]


def read_of(edge: Edge) -> Read:
    return LOGITS if edge.receiver is None else (at(edge.receiver), str(edge.into))


def slopes(
    paths: PathTwin, reads: set[Read], tokens: Tensor, embedded: Tensor, answer: int, wrong: int
) -> dict[Read, Tensor]:
    """The gradient at what each read adds to its own stream, [pos, d_model]."""
    nothing = {read: torch.zeros_like(embedded).requires_grad_() for read in reads}
    walk = paths.walk(tokens, added=nothing, embedded=embedded)
    found = torch.autograd.grad(difference(walk, answer, wrong), list(nothing.values()))
    return dict(zip(nothing, found, strict=True))


def guesses(
    paths: PathTwin,
    tokens: Tensor,
    source: Tensor,
    answers: tuple[int, int],
    steps: int,
    model: Any,
) -> Tensor:
    """The definition, edge by edge: what the sender writes more, times the mean gradient."""
    own, other = paths.walk(tokens), paths.walk(source)
    start, end = (paths.embedded(ids) for ids in (tokens, source))
    reads = {read_of(edge) for edge in edges(model)}
    at_steps = [
        slopes(paths, reads, tokens, torch.lerp(start, end, step / steps), *answers)
        for step in range(steps)
    ]
    found = []
    for edge in edges(model):
        sender = at(edge.sender)
        written = (other.z[sender] - own.z[sender]) @ paths.w_o(sender)
        mean = torch.stack([one[read_of(edge)] for one in at_steps]).mean(0)
        found.append((written * mean).sum())
    return torch.stack(found)


@pytest.mark.parametrize("steps", STEPS)
def test_every_edge(
    steps: int, model: Any, paths: PathTwin, clean: Prompts, corrupted: Prompts
) -> None:
    """Into queries, keys and values of every later head, and into the logits."""
    found = edge_attribution(model, clean, corrupted, steps)
    expected = [
        guesses(paths, own, other, (answer, wrong), steps, model)
        for own, other, answer, wrong in sides(clean, corrupted)
    ]
    agree(found, expected)
    assert bool((found.abs().amax(0) > 1e-4).all())  # no edge is compared at nothing


def test_every_head(model: Any, paths: PathTwin, clean: Prompts, corrupted: Prompts) -> None:
    found = attribution_patching(model, clean, corrupted)
    expected = []
    for own, other, answer, wrong in sides(clean, corrupted):
        walk = paths.walk(own, embedded=paths.embedded(own).requires_grad_())
        z = [walk.z[at(head)] for head in HEADS]
        grads = torch.autograd.grad(difference(walk, answer, wrong), z)
        theirs = paths.walk(other).z
        effects = [
            ((theirs[at(head)] - mine.detach()) * grad).sum()
            for head, mine, grad in zip(HEADS, z, grads, strict=True)
        ]
        expected.append(torch.stack(effects))
    agree(found.flatten(1), expected)
    assert bool((found.abs().amax(0) > 1e-4).all())


def test_a_kernel_that_carries_a_gradient_to_the_wrong_stream_is_found(
    model: Any,
    paths: PathTwin,
    clean: Prompts,
    corrupted: Prompts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Past the LayerNorm, not before it: the guesses are no longer the twin's."""
    monkeypatch.setattr(kernel, "input_norm", lambda bridge, layer, x, place: x - 0)
    monkeypatch.setattr(kernel, "_check_reads", lambda *_: None)
    found = edge_attribution(model, clean, corrupted, 1)
    own, other, answer, wrong = sides(clean, corrupted)[0]
    gap = (found[0] - guesses(paths, own, other, (answer, wrong), 1, model)).abs()
    into_heads = [edge.receiver is not None for edge in edges(model)]
    assert float(gap[into_heads].max()) > 1e-3
