"""Copying scores against the twin, on planted circuits and other models; what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from claimlens.ci.selftests import architectures, micro, twin_weights
from claimlens.ci.selftests.kernels.samples import HEADS, ROUNDING, SOME, agree, answers_of, at
from claimlens.ci.selftests.twin import Twin
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.bridge import final_norm, unembedding_bias
from claimlens.circuits.kernels.effective_embedding import Variant, effective_embedding
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.kernels.weights import (
    check_distinct,
    copies,
    copy_scores,
    first_of_row,
    qk_matches,
    qk_matrix,
    qk_scores,
)
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable
from claimlens.fixtures.bench import Bench

MOVER, NEGATIVE, BYSTANDER = Head(2, 0), Head(3, 0), Head(1, 3)
"""Of the planted model."""


# --- copying --------------------------------------------------------------------------------------


@pytest.mark.parametrize("embedding", ["W_E", "W_E+MLP0", "W_EE"])
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("k", [1, 5, 60])
def test_copies(
    k: int, negative: bool, embedding: Variant, model: Any, twin: Twin, names: Prompts
) -> None:
    rows = twin_weights.embedded(twin, embedding)[answers_of(names)]
    for head in HEADS:
        logits = twin_weights.copy_logits(twin, rows, at(head), -1 if negative else 1)
        found = copies(model, names, head, k, negative=negative, embedding=embedding)
        assert torch.equal(found, twin_weights.first(logits, answers_of(names), k))


def test_without_the_bias(model: Any, twin: Twin, names: Prompts) -> None:
    rows = twin_weights.embedded(twin, "W_EE")[answers_of(names)]
    for head in HEADS:
        direct = rows @ twin_weights.ov(twin, at(head)) @ twin_weights.unembedded(twin)
        found = copies(model, names, head, 20, negative=True, embedding="W_EE", bias=False)
        assert torch.equal(found, twin_weights.first(-direct, answers_of(names), 20))


def test_the_sign_is_turned_before_the_bias(model: Any, twin: Twin, names: Prompts) -> None:
    """Turned behind it, frequent tokens would be suppressed by every head."""
    rows = twin_weights.embedded(twin, "W_E+MLP0")[answers_of(names)]
    behind = -twin_weights.copy_logits(twin, rows, at(SOME), 1)
    found = copies(model, names, SOME, 60, negative=True)
    assert not torch.equal(found, twin_weights.first(behind, answers_of(names), 60))


def test_all_heads_at_once_are_the_heads_one_by_one(model: Any, names: Prompts) -> None:
    both = copy_scores(model, names, 30)
    assert both.shape == (2, len(names), micro.LAYERS, micro.HEADS)
    for sign, negative in enumerate((False, True)):
        for head in HEADS:
            one = copies(model, names, head, 30, negative=negative)
            assert torch.equal(both[sign, :, head.layer, head.index], one)
    assert 0 < int(both.sum()) < both.numel()


def test_a_head_that_copies_copies_everything(names: Prompts) -> None:
    copying = micro.boot_micro(micro.copying_model())
    assert bool(copies(copying, names, Head(0, 0), embedding="W_E").all())
    assert not bool(copies(copying, names, Head(0, 0), negative=True, embedding="W_E").any())


def test_planted_movers_copy_and_the_negative_head_copies_negatively(planted: Bench) -> None:
    clean = planted.names().clean
    positive, negative = copy_scores(planted.model, clean).double().mean(1)
    assert positive[MOVER.layer, MOVER.index] == 1
    assert negative[NEGATIVE.layer, NEGATIVE.index] == 1
    assert positive[NEGATIVE.layer, NEGATIVE.index] == 0
    assert float(positive[BYSTANDER.layer, BYSTANDER.index]) < 0.2


@pytest.mark.parametrize("negative", [False, True])
def test_a_head_that_writes_nothing_copies_nothing(negative: bool, names: Prompts) -> None:
    """Whatever the bias prefers: with it alone, some names would be among the first."""
    raw = micro.random_model()
    with torch.no_grad():
        raw.transformer.h[1].attn.c_proj.weight[: micro.WIDTH // micro.HEADS] = 0
    silent = micro.boot_micro(raw)
    bias = unembedding_bias(silent).expand(len(names), -1)
    assert bool(twin_weights.first(bias, answers_of(names), 60).any())
    assert not bool(copies(silent, names, Head(1, 0), 60, negative=negative).any())
    assert not bool(copy_scores(silent, names, 60)[..., 1, 0].any())
    assert bool(copies(silent, names, Head(1, 1), 60, negative=negative).any())


def test_with_others_answers_nothing_is_copied(planted: Bench) -> None:
    shuffled = planted.names().shuffled(1).clean
    assert float(copies(planted.model, shuffled, MOVER).double().mean()) < 0.3


def test_edits_change_no_weights(model: Any, names: Prompts) -> None:
    edited = zero_ablate(model, SOME)
    assert torch.equal(copies(edited, names, SOME, 60), copies(model, names, SOME, 60))
    assert torch.equal(qk_scores(edited, names), qk_scores(model, names))


def test_a_sweep_is_remembered_until_a_weight_changes(names: Prompts) -> None:
    own = micro.boot_micro(micro.random_model(seed=3))
    with remembering(Memory()):
        first = copy_scores(own, names, 30)
        assert copy_scores(own, names, 30) is first
        assert copy_scores(own, names, 31) is not first
        assert copy_scores(own, replace(names, answer=answers_of(names).roll(1)), 30) is not first
        with torch.no_grad():
            next(iter(own.parameters())).neg_()
        assert copy_scores(own, names, 30) is not first


# --- ranks, and what is refused -------------------------------------------------------------------


def test_ties_count_against_the_own_entry() -> None:
    rows, own = torch.tensor([[3.0, 1.0, 2.0], [2.0, 2.0, 1.0], [0.0, 0.0, 0.0]]), torch.arange(3)
    first = first_of_row(rows, torch.zeros_like(own), 1, "columns")
    assert first.tolist() == [True, False, False]
    assert first_of_row(rows, torch.zeros_like(own), 2, "columns").tolist() == [True, True, False]


def test_k_must_leave_something_out(model: Any, names: Prompts) -> None:
    vocabulary = int(model.cfg.d_vocab)
    for k in (0, -1, vocabulary, vocabulary + 1):
        with pytest.raises(ValueError, match=f"k={k} of {vocabulary} tokens of the vocabulary"):
            copies(model, names, SOME, k)
        with pytest.raises(ValueError, match=f"k={k} of {vocabulary} tokens of the vocabulary"):
            copy_scores(model, names, k)
    for k in (0, len(names), len(names) + 1):
        with pytest.raises(ValueError, match=f"k={k} of {len(names)} keys"):
            qk_matches(model, names, SOME, k)
        with pytest.raises(ValueError, match=f"k={k} of {len(names)} keys"):
            qk_scores(model, names, k)


def test_a_name_given_twice_is_refused(model: Any, names: Prompts) -> None:
    check_distinct(names)
    twice = names.select(torch.tensor([0, 1, 2, 1]))
    for kernel in (check_distinct, lambda p: qk_matrix(model, p, SOME)):
        with pytest.raises(ValueError, match="prompts 1 and 3 have the same token"):
            kernel(twice)
    mixed = replace(names, answer=answers_of(names)[torch.arange(len(names)) // 2])
    with pytest.raises(ValueError, match="prompts 0 and 1 have the same answer"):
        check_distinct(mixed)


def test_prompts_without_answers_are_refused(model: Any, names: Prompts) -> None:
    with pytest.raises(ValueError, match="have no answers"):
        copies(model, replace(names, answer=None, wrong_answer=None), SOME)


@pytest.mark.parametrize("name", ["Llama", "GPTNeoX"])
def test_other_architectures(name: str, names: Prompts) -> None:
    """Grouped heads read the keys and values of their group; scores from stacked weights."""
    other = architectures.bridge(name)
    rows = effective_embedding(other, "W_E+MLP0", answers_of(names))
    share = 2 if name == "Llama" else 1
    for head in (Head(1, 0), Head(1, 1), Head(1, 3)):
        W_K, W_V = (w[head.layer, head.index // share] for w in (other.W_K, other.W_V))
        matrix = rows @ other.W_Q[head.layer, head.index] @ W_K.T @ rows.T
        agree(qk_matrix(other, names, head), matrix.detach(), ROUNDING * 1e3)
        written = final_norm(other, (rows @ W_V @ other.W_O[head.layer, head.index]).detach())
        for sign, negative in ((1, False), (-1, True)):
            logits = sign * written @ other.W_U.detach() + unembedding_bias(other)
            expected = twin_weights.first(logits, answers_of(names), 30)
            assert torch.equal(copies(other, names, head, 30, negative=negative), expected)


@pytest.mark.parametrize("name", architectures.SPECIAL)
def test_the_final_norm_turns_with_its_input(name: str, names: Prompts) -> None:
    """One product serves both signs."""
    other = architectures.bridge(name)
    rows = effective_embedding(other, "W_E", answers_of(names))
    agree(final_norm(other, -rows), -final_norm(other, rows), ROUNDING)


def test_what_is_normalised_on_the_way_out_is_not_applicable(names: Prompts) -> None:
    with pytest.raises(NotApplicable, match="is normalised together with the other heads"):
        copies(architectures.bridge("Gemma2"), names, Head(1, 0))
    assert qk_scores(architectures.bridge("Gemma2"), names).shape == (len(names), 2, 4)


def test_a_head_the_model_lacks_is_not_applicable(model: Any, names: Prompts) -> None:
    for kernel in (copies, qk_matches, qk_matrix):
        with pytest.raises(NotApplicable, match="no head L9H9"):
            kernel(model, names, Head(9, 9))
