"""Knock-outs and what is said about circuits with them, against a plain GPT-2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import HEADS, ROUNDING, agree, at, rows
from claimlens.ci.selftests.twin import Place
from claimlens.ci.selftests.twin_paths import PathTwin
from claimlens.circuits.kernels.ablate import mean_ablate, resample_ablate, zero_ablate
from claimlens.circuits.kernels.attention import attention
from claimlens.circuits.kernels.cache import Edited, cache
from claimlens.circuits.kernels.incompleteness import incomplete_subset
from claimlens.circuits.kernels.knockout import (
    Kind,
    Node,
    isolate,
    knockout,
)
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.metrics import (
    answer_tokens,
    completeness_gap,
    faithfulness_gap,
    logit_diff,
    minimality_gap,
)
from claimlens.circuits.parts import Head, PromptPairs, Prompts

KINDS: tuple[Kind, ...] = ("zero", "mean", "template mean", "resample")
CIRCUIT = [Head(0, 1), Head(1, 0), Head(2, 1)]
OUTSIDE = [head for head in HEADS if head not in CIRCUIT]
SOME_PLACES: list[Head | Node] = [Node(Head(0, 1), "S1+1"), Node(Head(0, 1), "S2"), Head(2, 0)]


@pytest.fixture(scope="module")
def paths() -> PathTwin:
    return PathTwin(micro.random_model())


@pytest.fixture(scope="module")
def clean(pairs: PromptPairs) -> Prompts:
    """With templates that several prompts share."""
    return by_length(pairs.clean)


@pytest.fixture(scope="module")
def corrupted(pairs: PromptPairs) -> Prompts:
    assert pairs.corrupted is not None
    return by_length(pairs.corrupted)


def by_length(prompts: Prompts) -> Prompts:
    return replace(prompts, templates=tuple(f"{n} tokens" for n in prompts.lengths.tolist()))


def replacement(paths: PathTwin, kind: Kind, other: Prompts, row: int, place: Place) -> Tensor:
    """What stands in for z, by definition: [pos, d_head] or something that spreads to it."""
    z = [paths.walk(tokens).z[place] for tokens in rows(other)]
    if kind == "zero":
        return paths.b_v(place)
    if kind == "mean":
        return torch.cat(z).mean(0)
    if kind == "resample":
        return z[row]
    same = [mine for mine in z if len(mine) == len(z[row])]
    return torch.stack(same).mean(0)


def knocked_out(
    paths: PathTwin,
    clean: Prompts,
    other: Prompts,
    kind: Kind,
    out: Callable[[int, Place, int], bool],
) -> Tensor:
    """The twin's logit differences where z is replaced wherever `out(row, head, pos)`."""
    answers, wrongs = answer_tokens(clean)
    found = []
    for row, tokens in enumerate(rows(clean)):
        z = paths.walk(tokens).z
        for place in sorted(z):  # layer by layer: what is upstream has changed by then
            mine = [out(row, place, pos) for pos in range(len(tokens))]
            now = paths.walk(tokens, z={p: v for p, v in z.items() if p[0] < place[0]}).z[place]
            new = replacement(paths, kind, other, row, place).expand_as(now)
            z[place] = torch.where(torch.tensor(mine)[:, None], new, now)
        logits = paths.walk(tokens, z=z).logits[-1]
        found.append(logits[answers[row]] - logits[wrongs[row]])
    return torch.stack(found)


# --- against the twin -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_knocking_out_heads(
    kind: Kind, model: Any, paths: PathTwin, clean: Prompts, corrupted: Prompts
) -> None:
    gone = [at(head) for head in CIRCUIT]
    expected = knocked_out(paths, clean, corrupted, kind, lambda row, place, pos: place in gone)
    agree(logit_diff(knockout(model, clean, CIRCUIT, kind, corrupted), clean), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_circuit_alone(
    kind: Kind, model: Any, paths: PathTwin, clean: Prompts, corrupted: Prompts
) -> None:
    kept = [at(head) for head in CIRCUIT]
    expected = knocked_out(paths, clean, corrupted, kind, lambda row, place, pos: place not in kept)
    agree(logit_diff(isolate(model, clean, CIRCUIT, kind, corrupted), clean), expected)


@pytest.mark.parametrize("kind", ["zero", "template mean"])
@pytest.mark.parametrize("alone", [False, True], ids=["out", "alone"])
def test_nodes_at_labelled_positions(
    alone: bool, kind: Kind, model: Any, paths: PathTwin, clean: Prompts, corrupted: Prompts
) -> None:
    after, second = (clean.at(label)[:, 0].tolist() for label in ("S1+1", "S2"))

    def named(row: int, place: Place, pos: int) -> bool:
        return place == (2, 0) or (place == (0, 1) and pos in (after[row], second[row]))

    expected = knocked_out(
        paths, clean, corrupted, kind, lambda row, place, pos: named(row, place, pos) != alone
    )
    change = isolate if alone else knockout
    agree(logit_diff(change(model, clean, SOME_PLACES, kind, corrupted), clean), expected)


def test_it_agrees_with_the_ablations(model: Any, clean: Prompts, corrupted: Prompts) -> None:
    same: dict[Kind, Edited] = {
        "zero": zero_ablate(model, CIRCUIT),
        "template mean": mean_ablate(model, CIRCUIT, corrupted),
        "resample": resample_ablate(model, CIRCUIT, corrupted),
    }
    for kind, ablated in same.items():
        found = knockout(model, clean, CIRCUIT, kind, corrupted)
        agree(cache(found, clean).logits, cache(ablated, clean).logits, ROUNDING)


def test_means_may_come_from_other_prompts_of_the_templates(
    model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    few = torch.tensor([4, 1])
    found = knockout(model, clean.select(few), CIRCUIT, "template mean", corrupted)
    whole = knockout(model, clean, CIRCUIT, "template mean", corrupted)
    agree(logit_diff(found, clean.select(few)), logit_diff(whole, clean)[few], ROUNDING)


@pytest.mark.parametrize("kind", ["mean", "template mean"])
def test_a_source_of_many_prompts_is_run_in_pieces(
    kind: Kind, monkeypatch: pytest.MonkeyPatch, model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    whole = logit_diff(knockout(model, clean, CIRCUIT, kind, corrupted), clean)
    monkeypatch.setattr("claimlens.circuits.kernels.knockout.ROWS", 2)
    agree(logit_diff(knockout(model, clean, CIRCUIT, kind, corrupted), clean), whole, ROUNDING)


# --- endpoints ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_out_and_all_alone_are_exactly_the_clean_run(
    kind: Kind, model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    plain = cache(model, clean).logits
    for same in (
        knockout(model, clean, [], kind, corrupted),
        isolate(model, clean, HEADS, kind, corrupted),
    ):
        assert torch.equal(cache(same, clean).logits, plain)
    assert float(faithfulness_gap(model, clean, HEADS, kind, corrupted).abs().max()) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_everything_out_is_a_circuit_of_nothing(
    kind: Kind, model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    out = cache(knockout(model, clean, HEADS, kind, corrupted), clean).logits
    assert torch.equal(out, cache(isolate(model, clean, [], kind, corrupted), clean).logits)
    plain = cache(model, clean).logits
    assert bool(((out - plain).abs().amax((1, 2)) > 1e-3).all())


def test_all_heads_resampled_give_the_source_run_at_end(
    model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    out = knockout(model, clean, HEADS, "resample", corrupted)
    agree(logit_diff(out, clean), logit_diff(model, corrupted), 100 * ROUNDING)


# --- faithfulness, completeness, minimality -------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_three_gaps_are_what_they_say(
    kind: Kind, model: Any, paths: PathTwin, clean: Prompts, corrupted: Prompts
) -> None:
    def twin(kept: list[Head]) -> Tensor:
        places = [at(head) for head in kept]
        return knocked_out(paths, clean, corrupted, kind, lambda r, place, p: place not in places)

    removed, node = CIRCUIT[:1], CIRCUIT[2]
    full, alone = twin(HEADS), twin(CIRCUIT)
    agree(faithfulness_gap(model, clean, CIRCUIT, kind, corrupted), full - alone)
    left = [twin([h for h in mine if h not in removed]) for mine in (HEADS, CIRCUIT)]
    found = completeness_gap(model, clean, CIRCUIT, removed, kind, corrupted)
    agree(found, left[0] - left[1])
    found = minimality_gap(model, clean, CIRCUIT, node, removed, kind, corrupted)
    agree(found, left[1] - twin(CIRCUIT[1:2]))


def test_the_whole_model_is_complete_and_an_idle_node_is_not_needed(
    clean: Prompts, corrupted: Prompts
) -> None:
    raw = micro.random_model()
    with torch.no_grad():
        raw.transformer.h[2].attn.c_proj.weight[: raw.config.n_embd // 2] = 0
    idle, model = Head(2, 0), micro.boot_micro(raw)
    whole = completeness_gap(model, clean, HEADS, CIRCUIT, "template mean", corrupted)
    assert float(whole.abs().max()) == 0
    for node, wanted in ((idle, False), (CIRCUIT[0], True)):
        adds = minimality_gap(model, clean, HEADS, node, [], "template mean", corrupted)
        assert bool((adds != 0).any()) == wanted


def test_the_greedy_search_finds_what_trying_everything_finds(
    model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    """With all nodes tried, its first step is the best single node, and no later one is worse."""

    def gap(removed: tuple[Node, ...] | list[Head]) -> float:
        gaps = completeness_gap(model, clean, CIRCUIT, removed, "zero")
        return abs(float(gaps.mean()))

    first = incomplete_subset(model, clean, CIRCUIT, "zero", steps=1, tries=3)
    assert gap(first) == max(gap([head]) for head in CIRCUIT)
    assert gap(incomplete_subset(model, clean, CIRCUIT, "zero", steps=3, tries=3)) >= gap(first)


def test_the_greedy_search_is_drawn_with_a_seed(model: Any, clean: Prompts) -> None:
    found = [
        incomplete_subset(model, clean, CIRCUIT, "zero", steps=1, tries=1, seed=seed)
        for seed in (0, 0, 1, 2, 3)
    ]
    assert found[0] == found[1]
    assert len(set(found)) > 1
    with pytest.raises(ValueError, match="the circuit is empty"):
        incomplete_subset(model, clean, [], "zero")
    with pytest.raises(ValueError, match="steps=0, tries=5: expected at least one"):
        incomplete_subset(model, clean, CIRCUIT, "zero", steps=0)


# --- the memory, and bad input --------------------------------------------------------------------


def test_a_memory_tells_knock_outs_apart(model: Any, pairs: PromptPairs) -> None:
    """By kind, nodes, labels and source; and knows one that it has seen."""
    clean, other = by_length(pairs.clean), by_length(pairs.corrupted or pairs.clean)
    shuffled = by_length(pairs.shuffled(3).clean)

    def by_kind(kind: Kind) -> Tensor:
        return read(knockout(model, clean, CIRCUIT, kind, other), clean)

    asked: list[Callable[[], Tensor]] = [
        *(partial(by_kind, kind) for kind in KINDS),
        lambda: read(isolate(model, clean, CIRCUIT, "zero"), clean),
        lambda: read(knockout(model, clean, SOME_PLACES, "zero"), clean),
        lambda: read(knockout(model, shuffled, SOME_PLACES, "zero"), shuffled),
        lambda: read(knockout(model, clean, CIRCUIT[:2], "zero"), clean),
        lambda: read(knockout(model, clean, CIRCUIT, "mean", clean), clean),
        lambda: read(knockout(zero_ablate(model, HEADS[0]), clean, CIRCUIT, "zero"), clean),
    ]
    alone = [ask() for ask in asked]
    assert all(not torch.equal(a, b) for i, a in enumerate(alone) for b in alone[:i])
    with remembering(Memory()):
        for expected, ask in [*zip(alone, asked, strict=True)] * 2:
            assert torch.equal(ask(), expected)


def read(model: Any, prompts: Prompts) -> Tensor:
    to_bos = attention(model, prompts, HEADS[5], "END", "BOS")
    return torch.stack([logit_diff(model, prompts), to_bos])
