"""OV circuits: which heads would copy the name they look at, and which would lower it."""

import pytest

from claimlens.circuits import copies, copy_scores
from claimlens.circuits.weight_figures import heads_figure

COPY_TOO = ("ioi/backup_name_mover", "induction/induction_head")


@pytest.mark.claim("weights/name-movers-copy", kind="weights", finding="backup/copying-scores")
@pytest.mark.role("ioi/name_mover", shared_with=COPY_TOO)
def test_name_movers_copy_names(model, names, head, measure):
    """Of most names, a name mover's OV circuit makes the name itself one of the five likeliest
    tokens."""
    copied = measure(lambda p: copies(model, p.clean, head, k=5), on=names, unit="share of names")
    assert copied >= 0.5


@pytest.mark.claim(
    "weights/negative-heads-copy-negatively",
    kind="weights",
    finding="backup/negative-copying-scores",
)
@pytest.mark.role("copy_suppression/negative_head")
def test_negative_heads_copy_negatively(model, names, head, measure):
    """Of at least every fourth name, a negative head's OV circuit makes the name itself one of the
    five tokens it would raise if its sign were turned."""
    copied = measure(
        lambda p: copies(model, p.clean, head, k=5, negative=True), on=names, unit="share of names"
    )
    assert copied >= 0.25


@pytest.mark.claim(
    "weights/negative-heads-lower-own-token", kind="weights", finding="copy/ov-diagonal"
)
@pytest.mark.role("copy_suppression/negative_head")
def test_negative_heads_lower_the_token_itself(model, names, head, measure):
    """Of at least every third name, the name's own logit is among the ten that a negative head's
    OV circuit lowers most; the unembedding bias is left out."""
    lowered = measure(
        lambda p: copies(model, p.clean, head, k=10, negative=True, embedding="W_EE", bias=False),
        on=names,
        unit="share of names",
    )
    assert lowered >= 0.33


@pytest.mark.claim("weights/name-movers-over-average", kind="weights", finding="ioi/copy-score")
def test_name_movers_copy_more_than_the_average_head(model, names, roles, measure, figure):
    """The name movers' copying score is above the average head's, by at least 40% of the names."""
    positive, _ = copy_scores(model, names.clean, k=5).double()
    movers = roles["ioi/name_mover"]
    own = sum(positive[:, head.layer, head.index] for head in movers) / len(movers)
    figure(heads_figure("Copying scores", positive.mean(0), movers))
    over = measure(own - positive.mean((1, 2)), on=names, unit="share of names")
    assert over >= 0.4


@pytest.mark.claim(
    "weights/negative-heads-over-average", kind="weights", finding="ioi/negative-copy-score"
)
def test_negative_heads_copy_negatively_more_than_average(model, names, roles, measure, figure):
    """The negative heads' negative copying score is above the average head's, by at least a quarter
    of the names."""
    _, negative = copy_scores(model, names.clean, k=5).double()
    suppressors = roles["copy_suppression/negative_head"]
    own = sum(negative[:, head.layer, head.index] for head in suppressors) / len(suppressors)
    figure(heads_figure("Negative copying scores", negative.mean(0), suppressors))
    over = measure(own - negative.mean((1, 2)), on=names, unit="share of names")
    assert over >= 0.25
