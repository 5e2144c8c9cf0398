"""Composition of heads against the twin and TransformerLens, and on planted circuits."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures, twin_weights
from claimlens.ci.selftests.kernels.samples import HEADS, agree, answers_of, at
from claimlens.ci.selftests.twin import Twin
from claimlens.circuits.figures import BadFigure, Heatmap
from claimlens.circuits.kernels.composition import (
    Composition,
    composes,
    composition_matrix,
    composition_norm,
    compositions,
    is_causal,
    senders_before,
)
from claimlens.circuits.kernels.effective_embedding import Variant, effective_embedding
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured
from claimlens.circuits.weight_figures import composition_figure, heads_figure, names_figure
from claimlens.fixtures.bench import Bench

PAIRS = [(Head(0, 1), Head(1, 0)), (Head(1, 1), Head(2, 0)), (Head(2, 1), Head(0, 0))]
MOVERS, NEGATIVE, BACKUP = [Head(2, 0), Head(2, 1)], Head(3, 0), Head(3, 1)
"""Of the planted model."""


def dense(twin: Twin, rows: Tensor, sender: Head, receiver: Head) -> Tensor:
    circuit = twin_weights.ov(twin, at(sender)) @ twin_weights.qk(twin, at(receiver))
    return rows @ circuit @ rows.T


@pytest.mark.parametrize("embedding", ["W_E", "W_E+MLP0", "W_EE"])
@pytest.mark.parametrize(("sender", "receiver"), PAIRS)
def test_the_matrix(
    sender: Head, receiver: Head, embedding: Variant, model: Any, twin: Twin, names: Prompts
) -> None:
    rows = twin_weights.embedded(twin, embedding)[answers_of(names)]
    expected = dense(twin, rows, sender, receiver)
    found = composition_matrix(model, names, sender, receiver, embedding=embedding)
    agree(found, expected, 1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("k", [1, 5])
def test_every_head_into_every_head(
    k: int, negative: bool, model: Any, twin: Twin, names: Prompts
) -> None:
    rows = twin_weights.embedded(twin, "W_E+MLP0")[answers_of(names)]
    found = compositions(model, names, None, None, k, negative=negative)
    assert found.senders == found.receivers == tuple(HEADS)
    own = torch.arange(len(names))[:, None]
    for i, sender in enumerate(HEADS):
        for j, receiver in enumerate(HEADS):
            matrix = (-1 if negative else 1) * dense(twin, rows, sender, receiver)
            expected = (matrix.topk(k).indices == own).any(1)
            assert torch.equal(found.matches[:, i, j], expected)
    assert float(found.shares[2, 5]) == float(found.matches[:, 2, 5].double().mean())


def test_one_pair_is_its_cell(model: Any, names: Prompts) -> None:
    found = compositions(model, names, HEADS[:2], HEADS[3:], 5)
    one = composes(model, names, HEADS[1], HEADS[4], 5)
    assert torch.equal(found.matches[:, 1, 1], one)
    assert bool(one.any())


def test_the_matrix_agrees_with_transformer_lens(model: Any, names: Prompts) -> None:
    rows = effective_embedding(model, "W_E+MLP0", answers_of(names))
    for sender, receiver in PAIRS:
        circuit = model.OV[sender.layer, sender.index] @ model.QK[receiver.layer, receiver.index]
        theirs = (rows @ circuit @ rows.T).AB
        found = composition_matrix(model, names, sender, receiver)
        agree(found, theirs.detach(), 1e-9 * float(found.abs().max()))


# --- which pairs can meet -------------------------------------------------------------------------


def test_pairs_that_cannot_meet_are_scored_and_marked(model: Any, names: Prompts) -> None:
    found = compositions(model, names, None, None)
    for i, sender in enumerate(HEADS):
        for j, receiver in enumerate(HEADS):
            assert bool(found.causal[i, j]) == (sender.layer < receiver.layer)
    assert not is_causal(Head(1, 0), Head(1, 1))


def test_senders_that_come_too_late_are_left_out() -> None:
    late = [Head(9, 9), Head(10, 0)]
    assert senders_before(late, Head(10, 7)) == (Head(9, 9),)
    with pytest.raises(NotApplicable, match="L9H1 lies in no later layer than L9H9, L10H0"):
        senders_before(late, Head(9, 1))


def test_the_best_receiver_is_one_that_can_read(model: Any, names: Prompts) -> None:
    senders, receivers = (Head(1, 0),), (Head(0, 0), Head(2, 0), Head(2, 1))
    matches = torch.tensor([[[True, False, True]], [[True, False, False]]])
    causal = torch.tensor([[False, True, True]])
    assert Composition(senders, receivers, matches, causal).best_receiver() == Head(2, 1)
    with pytest.raises(NotApplicable, match="no receiver lies in a later layer"):
        Composition(senders, receivers, matches, ~causal & False).best_receiver()


def test_no_senders_are_not_all_senders(model: Any, names: Prompts) -> None:
    with pytest.raises(ValueError, match="no senders or no receivers given"):
        compositions(model, names, [], None)


# --- planted circuits -----------------------------------------------------------------------------


def test_movers_feed_the_negative_head_and_turn_the_backup_away(planted: Bench) -> None:
    model, clean = planted.model, planted.names().clean
    fed = compositions(model, clean, MOVERS, None)
    assert fed.shares[:, fed.receivers.index(NEGATIVE)].tolist() == [1, 1]
    away = compositions(model, clean, MOVERS, None, negative=True)
    assert away.shares[:, away.receivers.index(BACKUP)].tolist() == [1, 1]
    assert fed.best_receiver() == NEGATIVE
    assert away.best_receiver() == BACKUP


@pytest.mark.parametrize("mutant", ["planted:no-name-mover", "planted:no-negative-head-qk"])
def test_without_either_half_nothing_composes(mutant: str) -> None:
    broken = Bench(mutant)
    found = composes(broken.model, broken.names().clean, MOVERS[0], NEGATIVE)
    assert float(found.double().mean()) < 0.3


@pytest.mark.parametrize("negative", [False, True])
def test_a_sender_that_writes_nothing_matches_nothing(negative: bool) -> None:
    silent = Bench("planted:no-name-mover")
    found = composes(silent.model, silent.names().clean, MOVERS[0], NEGATIVE, 20, negative=negative)
    assert not bool(found.any())


def test_with_others_answers_nothing_composes(planted: Bench) -> None:
    shuffled = planted.names().shuffled(1).clean
    assert not bool(composes(planted.model, shuffled, MOVERS[0], NEGATIVE).any())


# --- composition scores ---------------------------------------------------------------------------

INTO: list[tuple[Literal["query", "key", "value"], str]] = [
    ("query", "Q"),
    ("key", "K"),
    ("value", "V"),
]


@pytest.mark.parametrize(("into", "mode"), INTO)
def test_the_norm_score_agrees_with_transformer_lens(
    into: Literal["query", "key", "value"], mode: str, model: Any
) -> None:
    theirs = model.all_composition_scores(mode).scores.detach()
    for sender, receiver in PAIRS[:2]:
        cell = theirs[sender.layer, sender.index, receiver.layer, receiver.index]
        agree(composition_norm(model, sender, receiver, into), cell, 1e-5)


@pytest.mark.parametrize(("into", "mode"), INTO)
def test_the_norm_score_of_dense_matrices(
    into: Literal["query", "key", "value"], mode: str, model: Any, twin: Twin
) -> None:
    for sender, receiver in PAIRS:
        sent, circuit = twin_weights.ov(twin, at(sender)), twin_weights.qk(twin, at(receiver))
        read = {"Q": circuit, "K": circuit.T, "V": twin_weights.ov(twin, at(receiver))}[mode]
        expected = (sent @ read).norm() / sent.norm() / read.norm()
        agree(composition_norm(model, sender, receiver, into), expected)


def test_a_sender_that_writes_nothing_has_no_norm_score() -> None:
    silent = Bench("planted:no-name-mover").model
    with pytest.raises(NotMeasured, match="L2H0 into the query of L3H0: one of their matrices"):
        composition_norm(silent, MOVERS[0], NEGATIVE, "query")


# --- what is refused ------------------------------------------------------------------------------


def test_k_must_leave_a_name_out(model: Any, names: Prompts) -> None:
    for k in (0, len(names), len(names) + 1):
        with pytest.raises(ValueError, match=f"k={k} of {len(names)} names"):
            composes(model, names, *PAIRS[0], k)
        with pytest.raises(ValueError, match=f"k={k} of {len(names)} names"):
            compositions(model, names, None, None, k)


def test_a_name_given_twice_is_refused(model: Any, names: Prompts) -> None:
    twice = names.select(torch.tensor([0, 1, 2, 1]))
    with pytest.raises(ValueError, match="have the same token"):
        compositions(model, twice, None, None)
    with pytest.raises(ValueError, match="have the same token"):
        composes(model, twice, *PAIRS[0])


def test_grouped_heads_send_the_values_of_their_group(names: Prompts) -> None:
    grouped = architectures.bridge("Llama")
    rows = effective_embedding(grouped, "W_E+MLP0", answers_of(names))
    for index in range(4):
        sent = rows @ grouped.W_V[0, index // 2] @ grouped.W_O[0, index]
        expected = sent @ grouped.W_Q[1, index] @ grouped.W_K[1, index // 2].T @ rows.T
        found = composition_matrix(grouped, names, Head(0, index), Head(1, index))
        agree(found, expected.detach(), 1e-9)


def test_what_is_normalised_on_the_way_out_is_not_applicable(names: Prompts) -> None:
    with pytest.raises(NotApplicable, match="is normalised together with the other heads"):
        composes(architectures.bridge("Gemma2"), names, Head(0, 0), Head(1, 0))


# --- figures --------------------------------------------------------------------------------------


def test_the_figure_outlines_what_cannot_meet(model: Any, names: Prompts) -> None:
    found = compositions(model, names, HEADS[1:3], HEADS[1:3])
    drawn = composition_figure("OV into QK", found)
    assert isinstance(drawn, Heatmap)
    assert drawn.marked == ((0, 0), (1, 0), (1, 1))
    assert [list(row) for row in drawn.values] == found.shares.tolist()


def test_the_figure_of_all_heads_outlines_the_claimed(model: Any) -> None:
    drawn = heads_figure("Scores", torch.ones(3, 2), [Head(2, 1)])
    assert drawn.marked == ((2, 1),)
    with pytest.raises(BadFigure, match="Heatmap 'Scores'"):
        heads_figure("Scores", torch.full((3, 2), torch.nan), [])


@pytest.mark.parametrize("negative", [False, True])
def test_the_figure_of_names_shows_the_matrix_and_says_the_scores(
    negative: bool, model: Any, names: Prompts
) -> None:
    words = [f"name{row}" for row in range(len(names))]
    matrix = composition_matrix(model, names, *PAIRS[0])
    drawn = names_figure("OV into QK", words, matrix, negative=negative, shown=7)
    assert drawn.x == drawn.y == tuple(words[:7])
    assert [list(row) for row in drawn.values] == matrix[:7, :7].tolist()
    assert drawn.marked == tuple((row, row) for row in range(7))
    end, shares = "last" if negative else "first", []
    for k in (1, 5):
        found = composes(model, names, *PAIRS[0], k, negative=negative).double().mean()
        shares.append(f"{float(found):.0%} of names among the {end} {k}")
    assert drawn.title == f"OV into QK ({', '.join(shares)})"


def test_a_matrix_of_other_names_is_not_drawn(model: Any, names: Prompts) -> None:
    matrix = composition_matrix(model, names, *PAIRS[0])
    with pytest.raises(ValueError, match="expected a row and a column for each"):
        names_figure("OV into QK", ["one", "two"], matrix)
