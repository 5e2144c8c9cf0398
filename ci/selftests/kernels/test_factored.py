"""FactoredMatrix against dense matrices, and the eigenvalue scores against both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens import FactoredMatrix

from claimlens.ci.selftests import architectures, micro, twin_weights
from claimlens.ci.selftests.kernels.samples import HEADS, SOME, agree, at
from claimlens.ci.selftests.twin import Twin
from claimlens.circuits.kernels import factored
from claimlens.circuits.kernels.effective_embedding import Variant, effective_embedding
from claimlens.circuits.kernels.factored import (
    eigenvalue_score,
    eigenvalue_scores,
    eigenvalues,
    full_ov,
    ov,
    qk,
    score_agreement,
    trace_gaps,
)
from claimlens.circuits.parts import Head
from claimlens.circuits.verdict import NotApplicable, NotMeasured
from claimlens.circuits.weight_figures import agreement_figure, eigenvalues_figure
from claimlens.fixtures.bench import Bench

MOVER, NEGATIVE = Head(2, 0), Head(3, 0)
"""Of the planted model."""


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


A, B = random(3, 9, 4), random(3, 4, 9, seed=1)
LOW, HIGH = FactoredMatrix(A, B), A @ B
WIDE, TALL, VECTOR = random(9, 20, seed=2), random(20, 9, seed=3), random(9, seed=4)


def formed(low: FactoredMatrix) -> Tensor:
    """The product, as the dense matrix that it is."""
    product = low.AB
    assert isinstance(product, Tensor)
    return product


def sorted_eigenvalues(found: Tensor) -> Tensor:
    """By size, then by argument: an order that rounding does not change."""
    order = sorted(found.tolist(), key=lambda z: (-round(abs(z), 6), round(z.imag, 6), z.real))
    return torch.tensor(order, dtype=torch.complex128)


# --- the algebra, in batches ----------------------------------------------------------------------


def test_norm_and_dimensions() -> None:
    agree(LOW.norm(), HIGH.norm(dim=(1, 2)), 1e-9)
    assert (LOW.ldim, LOW.mdim, LOW.rdim, tuple(LOW.shape)) == (9, 4, 9, (3, 9, 9))
    agree(formed(LOW), HIGH, 1e-12)


def test_singular_values() -> None:
    agree(LOW.S, torch.linalg.svdvals(HIGH)[:, :4], 1e-9)
    U, S, V = LOW.svd()
    agree(U @ torch.diag_embed(S) @ V.transpose(-2, -1), HIGH, 1e-9)


def test_eigenvalues_are_those_of_the_dense_matrix_without_its_zeros() -> None:
    for row in range(3):
        dense = sorted_eigenvalues(torch.linalg.eigvals(HIGH[row]))
        found = sorted_eigenvalues(LOW.eigenvalues[row])
        torch.testing.assert_close(found, dense[:4], rtol=0, atol=1e-8)
        assert float(dense[4:].abs().max()) < 1e-6


PRODUCTS: dict[str, tuple[Callable[[], Any], Tensor]] = {
    "matrix on the right": (lambda: LOW @ WIDE, HIGH @ WIDE),
    "matrix on the left": (lambda: TALL @ LOW, TALL @ HIGH),
    "factored on the right": (lambda: LOW @ LOW, HIGH @ HIGH),
    "both sides": (lambda: TALL @ LOW @ WIDE, TALL @ HIGH @ WIDE),
    "transposed": (lambda: LOW.T, HIGH.transpose(-2, -1)),
    "scaled": (lambda: 2 * LOW, 2 * HIGH),
    "one of the batch": (lambda: LOW[1], HIGH[1]),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str) -> None:
    found, expected = PRODUCTS[name]
    low = found()
    agree(formed(low), expected, 1e-9)
    assert low.mdim == 4  # still factored through the smallest dimension


def test_vectors_collapse() -> None:
    right: Any = LOW @ VECTOR
    left: Any = VECTOR @ LOW
    agree(right, HIGH @ VECTOR, 1e-9)
    agree(left, VECTOR @ HIGH, 1e-9)


def test_dimensions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(AssertionError, match="must match on inner dimension"):
        LOW @ TALL


# --- the circuits of heads ------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_ov_and_qk(head: Head, model: Any, twin: Twin) -> None:
    for found, dense in (
        (ov(model, head), twin_weights.ov(twin, at(head))),
        (qk(model, head), twin_weights.qk(twin, at(head))),
    ):
        scale = float(dense.abs().max())
        agree(formed(found), dense, 1e-5 * scale)
        agree(found.norm(), dense.norm(), 1e-5 * float(dense.norm()))
        assert (found.ldim, found.mdim, found.rdim) == (32, 16, 32)


def dense_full(twin: Twin, head: Head, through: Variant) -> Tensor:
    rows = twin_weights.embedded(twin, through)
    return rows @ twin_weights.ov(twin, at(head)) @ twin_weights.unembedded(twin)


@pytest.mark.parametrize("through", ["W_E", "W_E+MLP0"])
def test_the_full_circuit(through: Variant, model: Any, twin: Twin) -> None:
    dense = dense_full(twin, SOME, through)
    found = full_ov(model, SOME, through)
    agree(formed(found), dense, 1e-5 * float(dense.abs().max()))
    assert found.mdim == 16


@pytest.mark.parametrize("through", [None, "W_E", "W_E+MLP0"])
@pytest.mark.parametrize("head", [Head(0, 0), SOME, Head(2, 1)], ids=str)
def test_the_score_of_dense_matrices(
    head: Head, through: Variant | None, model: Any, twin: Twin
) -> None:
    """The zeros that a dense d_vocab x d_vocab adds change neither sum."""
    dense = twin_weights.ov(twin, at(head)) if through is None else dense_full(twin, head, through)
    values = torch.linalg.eigvals(dense)
    expected = values.sum().real / values.abs().sum()
    agree(eigenvalue_score(model, head, through), expected, 1e-5)
    found = eigenvalues(model, head, through)
    assert len(found) == micro.WIDTH // micro.HEADS
    agree(found.sum().real, dense.trace(), 1e-5 * float(values.abs().sum()))


def test_the_scores_agree_with_transformer_lens(model: Any) -> None:
    circuits: dict[Variant | None, Any] = {
        None: model.OV,
        "W_E": model.W_E @ model.OV @ model.W_U,
    }
    for through, theirs in circuits.items():
        values = theirs.eigenvalues.detach()
        expected = values.sum(-1).real / values.abs().sum(-1)
        found = eigenvalue_scores(model, through)
        assert list(found) == HEADS
        both = torch.tensor([found[head] for head in HEADS], dtype=torch.float64)
        agree(both, expected.flatten(), 1e-6)
        one = eigenvalue_score(model, SOME, through)
        agree(one, expected[SOME.layer, SOME.index], 1e-6)


def test_some_heads_only(model: Any) -> None:
    assert eigenvalue_scores(model, heads=[SOME]) == {SOME: eigenvalue_scores(model)[SOME]}


def test_planted_scores_have_their_ends() -> None:
    planted = Bench("planted").model
    assert float(eigenvalue_score(planted, MOVER, "W_E")) == pytest.approx(1, abs=1e-4)
    assert float(eigenvalue_score(planted, NEGATIVE, "W_E")) == pytest.approx(-1, abs=1e-4)


# --- no score -------------------------------------------------------------------------------------


def test_a_head_that_writes_elsewhere_than_it_reads_has_no_score() -> None:
    planted = Bench("planted").model
    with pytest.raises(NotApplicable, match="every eigenvalue of the OV circuit of L2H0 is 0"):
        eigenvalue_score(planted, MOVER)
    assert eigenvalue_scores(planted) == {}
    assert set(eigenvalue_scores(planted, "W_E")) == {
        *(Head(1, 0), MOVER, Head(2, 1), NEGATIVE, Head(3, 1)),
    }


def test_eigenvalues_that_are_rounding_are_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that writes at right angles to what it reads, in float32: none is exactly 0."""
    axes = torch.linalg.qr(random(32, 32)).Q.float()
    monkeypatch.setattr(factored, "value_weights", lambda model, head: axes[:, :16])
    monkeypatch.setattr(factored, "output_weights", lambda model, head: axes[:, 16:].T)
    model = micro.bridge("float32")
    assert float(ov(model, SOME).eigenvalues.abs().max()) > 0
    with pytest.raises(NotApplicable, match="every eigenvalue of the OV circuit of L1H1 is 0"):
        eigenvalue_score(model, SOME)


def test_a_head_that_writes_nothing_is_not_measured() -> None:
    silent = Bench("planted:no-name-mover").model
    with pytest.raises(NotMeasured, match="L2H0 writes nothing"):
        eigenvalue_score(silent, MOVER, "W_E")
    assert MOVER not in eigenvalue_scores(silent, "W_E")


def test_what_is_normalised_on_the_way_out_is_not_applicable() -> None:
    normalised = architectures.bridge("Gemma2")
    for kernel in (eigenvalue_score, full_ov):
        with pytest.raises(NotApplicable, match="is normalised together"):
            kernel(normalised, Head(0, 0))


def test_grouped_heads_have_the_values_of_their_group() -> None:
    grouped = architectures.bridge("Llama")
    theirs = grouped.OV.eigenvalues.detach()
    for head in (Head(1, 1), Head(1, 2)):
        values = theirs[head.layer, head.index]
        agree(eigenvalue_score(grouped, head), values.sum().real / values.abs().sum(), 1e-9)


# --- agreement of scores, and the trace -----------------------------------------------------------


def test_agreement_is_pearsons_over_the_heads_that_have_both() -> None:
    one = {Head(0, i): float(i) for i in range(5)}
    other = {head: 3 - 2 * score for head, score in one.items() if head != Head(0, 2)}
    assert float(score_agreement(one, other)) == pytest.approx(-1)
    mixed = dict(zip(one, [0.0, 2.0, 1.0, 4.0, 3.0], strict=True))
    assert float(score_agreement(one, mixed)) == pytest.approx(0.8)


def test_an_agreement_of_nothing_is_none() -> None:
    one = {Head(0, i): float(i) for i in range(5)}
    with pytest.raises(NotApplicable, match="2 heads have both scores"):
        score_agreement(one, {Head(0, 0): 1.0, Head(0, 1): 2.0, Head(1, 1): 3.0})
    with pytest.raises(NotMeasured, match="the same in every head"):
        score_agreement(one, dict.fromkeys(one, 0.5))


@pytest.mark.parametrize("through", ["W_E", "W_E+MLP0"])
def test_the_trace_is_the_sum_of_the_eigenvalues(through: Variant, model: Any) -> None:
    for layer in range(micro.LAYERS):
        assert float(trace_gaps(model, layer, through).max()) < 1e-9


BROKEN: dict[str, Callable[..., Tensor]] = {
    "another unembedding": lambda model: model.W_U.detach().roll(1, 1),
    "no unembedding": lambda model: torch.zeros_like(model.W_U),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_kernel_turns_the_identity_red(
    broken: str, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = model.W_U.detach() @ effective_embedding(model, "W_E")
    monkeypatch.setattr(factored, "_around", lambda model, through: around)
    assert float(trace_gaps(model, 1).max()) < 1e-9
    wrong = BROKEN[broken](model) @ effective_embedding(model, "W_E")
    monkeypatch.setattr(factored, "_around", lambda model, through: wrong)
    assert float(trace_gaps(model, 1).max()) > 1e-4


def test_a_layer_that_writes_nothing_has_no_trace() -> None:
    silent = micro.random_model()
    with torch.no_grad():
        silent.transformer.h[1].attn.c_proj.weight.zero_()
    with pytest.raises(NotMeasured, match="no head of layer 1 writes anything"):
        trace_gaps(micro.boot_micro(silent), 1)


# --- figures --------------------------------------------------------------------------------------


def test_eigenvalues_are_drawn_in_the_complex_plane(model: Any) -> None:
    found = eigenvalues(model, SOME)
    points = eigenvalues_figure("Eigenvalues", found).points
    assert [complex(point.x, point.y) for point in points] == found.tolist()


def test_scores_are_drawn_for_the_heads_that_have_both() -> None:
    one, other = {Head(0, 0): 1.0, SOME: 2.0}, {SOME: 3.0}
    (point,) = agreement_figure("Two scores", one, other, ("one", "other")).points
    assert (point.x, point.y, point.label) == (2.0, 3.0, "L1H1")
