"""Effective embeddings: layer 0 makes of a token what later layers read."""

import pytest

from claimlens.circuits import copies
from claimlens.circuits.kernels.effective_embedding import one_token_gap, require_mlp0


@pytest.mark.claim(
    "embeddings/names-are-copied-through-mlp0",
    kind="weights",
    source="Wang et al. 2022, section 3.1: the copying score takes MLP0 into the embedding; "
    "McDougall et al. 2023, section 3.1: MLP0 as an effective embedding",
)
@pytest.mark.role(
    "ioi/name_mover", shared_with=("ioi/backup_name_mover", "induction/induction_head")
)
def test_name_movers_read_names_through_mlp0(model, names, head, measure):
    """A name mover copies more of the names, by at least a fifth of them, when it reads
    W_E + MLP0 than when it reads W_E alone."""
    require_mlp0(model)
    through = measure(lambda p: copies(model, p.clean, head), on=names, unit="share of names")
    alone = measure(
        lambda p: copies(model, p.clean, head, embedding="W_E"), on=names, unit="share of names"
    )
    assert through - alone >= 0.2


@pytest.mark.claim(
    "embeddings/weights-give-the-one-token-residual",
    kind="identity",
    source="Definition of W_EE: the residual stream after layer 0 where a token looks at itself",
)
def test_the_effective_embedding_is_what_one_token_leaves(model, names, measure):
    """W_EE from the weights is the residual stream after layer 0 of a run on that token alone,
    without its position."""
    gap = measure(
        lambda p: one_token_gap(model, p.clean), on=names, unit="share of its length", exact=True
    )
    assert gap <= 1e-4
