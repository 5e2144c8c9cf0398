"""Screening by gradients: what attribution patching ranks first matters, measured exactly.

Heads and edges are chosen, with the sign of their effect, on some prompts and measured on others.
"""

import pytest

from claimlens.circuits import (
    halves,
    logit_diff,
    path_effect,
    resample_ablate,
    screen_edges,
    screen_heads,
)


def guesses(screening):
    """What ranks first, with the sign of its guessed effect."""
    return zip(screening.first, screening.approx_of_first.mean(0).sign().tolist(), strict=True)


@pytest.mark.claim(
    "screening/heads",
    kind="mechanism",
    source="Syed et al. 2023, arXiv:2310.10348: attribution patching finds what patching finds",
)
def test_heads_that_gradients_rank_first_matter(model, ioi, measure):
    """Each of the three heads that attribution patching ranks first changes the logit difference
    of other prompts as guessed, by a tenth of a logit or more, when it is patched."""
    chosen_on, tested_on = halves(ioi)
    found = screen_heads(model, chosen_on.clean, chosen_on.corrupted, 3)
    for head, sign in guesses(found):

        def effect(p, head=head, sign=sign):
            patched = resample_ablate(model, head, p.corrupted)
            return sign * (logit_diff(patched, p.clean) - logit_diff(model, p.clean))

        assert measure(effect, on=tested_on, unit="logits") >= 0.1


@pytest.mark.claim(
    "screening/edges",
    kind="mechanism",
    source="Hanna et al. 2024, arXiv:2403.17806: integrated gradients find faithful circuits",
)
def test_edges_that_gradients_rank_first_matter(model, ioi, measure):
    """Each of the three edges that attribution with integrated gradients ranks first changes the
    logit difference of other prompts as guessed, by a tenth of a logit or more, when its path is
    patched."""
    chosen_on, tested_on = halves(ioi)
    few = chosen_on.select(range(16))
    found = screen_edges(model, few.clean, few.corrupted, 3)
    for edge, sign in guesses(found):
        receiver = {} if edge.receiver is None else {"receivers": edge.receiver, "into": edge.into}

        def effect(p, sender=edge.sender, receiver=receiver, sign=sign):
            path = path_effect(model, p.clean, p.corrupted, sender, mlps="frozen", **receiver)
            return sign * path

        assert measure(effect, on=tested_on, unit="logits") >= 0.1
