"""Eigenvalue copying scores: what they say of movers and suppressors, and where they mislead."""

import pytest

from claimlens.circuits.kernels.factored import (
    eigenvalue_score,
    eigenvalue_scores,
    eigenvalues,
    score_agreement,
    trace_gaps,
)
from claimlens.circuits.weight_figures import agreement_figure, eigenvalues_figure

COPY_TOO = ("ioi/backup_name_mover", "induction/induction_head")


@pytest.mark.claim(
    "weights/ov-eigenvalues-tell-roles",
    kind="weights",
    finding="demo/ov-copying",
    expected={"gpt2": "refuted", "default": "refuted"},
)
@pytest.mark.role("ioi/name_mover", shared_with=COPY_TOO)
def test_ov_eigenvalues_are_high_for_movers_and_low_for_suppressors(model, heads, roles, measure):
    """The eigenvalue copying score of W_OV is high for every name mover and low for every
    suppressor."""

    def score(head):
        return measure(lambda: eigenvalue_score(model, head), unit="fraction")

    for head in heads:
        assert score(head) >= 0.5
    for head in roles["copy_suppression/negative_head"]:
        assert score(head) <= -0.5


@pytest.mark.claim(
    "weights/full-ov-eigenvalues-tell-roles",
    kind="weights",
    finding="demo/full-ov-copying",
    expected={"gpt2": "refuted", "default": "refuted"},
)
@pytest.mark.role("ioi/name_mover", shared_with=COPY_TOO)
def test_full_ov_eigenvalues_are_high_for_movers_and_low_for_suppressors(
    model, heads, roles, measure
):
    """The eigenvalue copying score of W_E W_OV W_U is high for every name mover and low for every
    suppressor."""

    def score(head):
        return measure(lambda: eigenvalue_score(model, head, through="W_E"), unit="fraction")

    for head in heads:
        assert score(head) >= 0.5
    for head in roles["copy_suppression/negative_head"]:
        assert score(head) <= -0.5


@pytest.mark.claim(
    "weights/effective-ov-eigenvalues-tell-roles",
    kind="weights",
    source="The caveat on demo/ov-copying, turned round: the score between the effective embedding "
    "W_E + MLP0 (Wang et al. 2022, section 3.1) and W_U. No figure for GPT-2 is published.",
)
@pytest.mark.role("ioi/name_mover", shared_with=COPY_TOO)
def test_effective_ov_eigenvalues_are_high_for_movers_and_low_for_suppressors(
    model, heads, roles, measure, figure
):
    """Read through MLP0, the eigenvalue copying score is high for every name mover and low for
    every suppressor."""

    def score(head):
        return measure(lambda: eigenvalue_score(model, head, through="W_E+MLP0"), unit="fraction")

    for head in heads:
        assert score(head) >= 0.5
    for head in roles["copy_suppression/negative_head"]:
        assert score(head) <= -0.5
    found = eigenvalues(model, heads[0], through="W_E+MLP0")
    figure(eigenvalues_figure(f"Eigenvalues of (W_E + MLP0) W_OV W_U, {heads[0]}", found))


@pytest.mark.claim("weights/ov-scores-agree", kind="weights", finding="demo/ov-vs-full-ov")
def test_the_two_eigenvalue_scores_agree(model, measure, figure):
    """Heads differ in their eigenvalue copying score, and the scores of W_OV and of
    W_E W_OV W_U agree over the heads.

    Without the first half it would hold of random matrices: W_U W_E is nearly the identity where
    the two are tied.
    """
    plain, full = eigenvalue_scores(model), eigenvalue_scores(model, through="W_E")
    correlation = measure(lambda: score_agreement(plain, full), unit="correlation")
    spread = measure(lambda: max(plain.values()) - min(plain.values()), unit="fraction")
    figure(agreement_figure("Two scores", plain, full, ("W_OV", "W_E W_OV W_U")))
    assert spread >= 1.0
    assert correlation >= 0.7


@pytest.mark.claim(
    "weights/eigenvalues-sum-to-trace",
    kind="identity",
    source="Linear algebra: the trace of E W_OV W_U is the sum of its eigenvalues",
)
def test_eigenvalues_sum_to_what_tokens_do_to_themselves(model, measure):
    """In the last layer, the eigenvalues of a head's full OV circuit sum to what it adds to every
    token's own logit, summed over the vocabulary."""
    last = int(model.cfg.n_layers) - 1
    assert measure(lambda: trace_gaps(model, last).max(), unit="share of the largest") <= 1e-4
