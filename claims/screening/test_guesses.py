"""Screening by gradients: what attribution patching ranks first matters, measured exactly."""

import pytest

from claimlens.circuits import screen_edges, screen_heads


def confirmed(screening, place):
    """The exact effect of what ranks first, counted in the direction of its guess."""
    guess = screening.approx_of_first[:, place].mean()
    return screening.exact[:, place] * guess.sign()


@pytest.mark.claim(
    "screening/heads",
    kind="mechanism",
    source="Syed et al. 2023, arXiv:2310.10348: attribution patching finds what patching finds",
)
def test_heads_that_gradients_rank_first_matter(model, ioi, measure):
    """Each of the three heads that attribution patching ranks first changes the logit difference
    as guessed, by a tenth of a logit or more, when it is patched."""
    found = screen_heads(model, ioi.clean, ioi.corrupted, 3)
    for place in range(3):
        assert measure(confirmed(found, place), on=ioi, unit="logits") >= 0.1


@pytest.mark.claim(
    "screening/edges",
    kind="mechanism",
    source="Hanna et al. 2024, arXiv:2403.17806: integrated gradients find faithful circuits",
)
def test_edges_that_gradients_rank_first_matter(model, ioi, measure):
    """Each of the three edges that attribution with integrated gradients ranks first changes the
    logit difference as guessed, by a tenth of a logit or more, when its path is patched."""
    few = ioi.select(range(32))
    found = screen_edges(model, few.clean, few.corrupted, 3)
    for place in range(3):
        assert measure(confirmed(found, place), on=few, unit="logits") >= 0.1
