"""QK circuits against the twin and TransformerLens, and on planted circuits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro, twin_weights
from claimlens.ci.selftests.kernels.samples import HEADS, SOME, TOLERANCES, agree, answers_of, at
from claimlens.ci.selftests.twin import Twin
from claimlens.circuits.kernels.bridge import final_norm
from claimlens.circuits.kernels.effective_embedding import Variant, effective_embedding
from claimlens.circuits.kernels.weights import (
    copies,
    qk_matches,
    qk_matrix,
    qk_scores,
    require_tied,
)
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable
from claimlens.fixtures.bench import Bench

NEGATIVE, DUPLICATE = Head(3, 0), Head(0, 1)
"""Of the planted model."""


def dense(twin: Twin, names: Prompts, head: Head, query: Variant, key: Variant) -> Tensor:
    queries, keys = (
        twin_weights.unembedded(twin).T if v == "W_U" else twin_weights.embedded(twin, v)
        for v in (query, key)
    )
    ids = answers_of(names)
    return queries[ids] @ twin_weights.qk(twin, at(head)) @ keys.T


@pytest.mark.parametrize(("query", "key"), [("W_E+MLP0", "W_E+MLP0"), ("W_U", "W_EE")])
@pytest.mark.parametrize("head", HEADS, ids=str)
def test_the_qk_circuit(
    head: Head, query: Variant, key: Variant, model: Any, twin: Twin, names: Prompts
) -> None:
    expected, ids = dense(twin, names, head, query, key), answers_of(names)
    tolerance = 1e-5 * float(expected.abs().max())
    found = qk_matrix(model, names, head, query=query, key=key)
    agree(found, expected[:, ids], tolerance)
    whole = qk_matrix(model, names, head, query=query, key=key, keys="vocabulary")
    agree(whole, expected, tolerance)


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("k", [1, 5])
def test_matches(k: int, negative: bool, model: Any, twin: Twin, names: Prompts) -> None:
    ids, own, sign = answers_of(names), torch.arange(len(names)), -1 if negative else 1
    scores = qk_scores(model, names, k, negative=negative)
    for head in HEADS:
        matrix = sign * dense(twin, names, head, "W_E+MLP0", "W_E+MLP0")
        found = qk_matches(model, names, head, k, negative=negative)
        assert torch.equal(found, twin_weights.first(matrix[:, ids], own, k))
        assert torch.equal(scores[:, head.layer, head.index], found)
        all_keys = qk_matches(model, names, head, k, negative=negative, keys="vocabulary")
        assert torch.equal(all_keys, twin_weights.first(matrix, ids, k))


def test_the_circuits_agree_with_transformer_lens(model: Any, names: Prompts) -> None:
    rows = effective_embedding(model, "W_E+MLP0", answers_of(names))
    for head in HEADS:
        theirs = rows @ model.QK[head.layer, head.index].AB @ rows.T
        agree(qk_matrix(model, names, head), theirs.detach(), 1e-9)
        written = final_norm(model, rows @ model.OV[head.layer, head.index].AB.detach())
        logits = written @ model.W_U.detach() + model.b_U.detach()
        expected = twin_weights.first(logits, answers_of(names), 30)
        assert torch.equal(copies(model, names, head, 30), expected)


def test_planted_heads_match_what_they_were_made_to_match(planted: Bench) -> None:
    model, clean = planted.model, planted.names().clean
    assert bool(qk_matches(model, clean, DUPLICATE).all())
    assert bool(qk_matches(model, clean, NEGATIVE, query="W_U", key="W_EE").all())
    blinded = Bench("planted:no-negative-head-qk")
    lost = qk_matches(blinded.model, clean, NEGATIVE, query="W_U", key="W_EE")
    assert float(lost.double().mean()) < 0.5


def test_an_embedding_stands_for_a_prediction_only_where_they_are_tied(
    model: Any, planted: Bench
) -> None:
    require_tied(model)
    with pytest.raises(NotApplicable, match="are not tied"):
        require_tied(planted.model)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_both_dtypes(dtype: str, tolerance: float, twin: Twin, names: Prompts) -> None:
    expected = dense(twin, names, SOME, "W_E+MLP0", "W_E+MLP0")[:, answers_of(names)]
    found = qk_matrix(micro.bridge(dtype), names, SOME)
    agree(found, expected, tolerance * float(expected.abs().max()))
