"""IOI: what the S-inhibition heads tell the name movers, and what a third name does to it."""

import pytest

from claimlens.circuits import correct, logit_diff, signal_coefficients

CARRY_THE_NAME = ("ioi/name_mover", "ioi/backup_name_mover", "copy_suppression/negative_head")
"""Their output at END speaks of the name itself, so a turned prompt turns it as well."""


@pytest.mark.claim("ioi/token-signal", kind="mechanism", finding="ioi/position-and-token-signal")
@pytest.mark.role("ioi/s_inhibition", shared_with=CARRY_THE_NAME)
def test_s_inhibition_tells_which_name_is_repeated(model, ioi, heads, measure):
    """Turning round which name is repeated, in the S-inhibition heads' output at END alone, costs
    twice half a logit or more."""
    token = measure(
        lambda p: signal_coefficients(model, p.clean, heads)[:, 1],
        on=ioi,
        unit="logits per signal",
    )
    assert token >= 0.5


@pytest.mark.claim(
    "ioi/position-signal",
    kind="mechanism",
    finding="ioi/position-and-token-signal",
    expected={"default": "refuted", "planted": "refuted"},
)
@pytest.mark.role("ioi/s_inhibition", shared_with=CARRY_THE_NAME)
def test_s_inhibition_tells_where_the_name_was(model, ioi, heads, measure):
    """Turning round where the repeated name was, in the S-inhibition heads' output at END alone,
    costs twice half a logit or more."""
    position = measure(
        lambda p: signal_coefficients(model, p.clean, heads)[:, 0],
        on=ioi,
        unit="logits per signal",
    )
    assert position >= 0.5


@pytest.mark.claim(
    "ioi/duplicated-object",
    kind="behaviour",
    finding="ioi/duplicated-io",
    expected={"default": "refuted"},
)
def test_naming_the_object_twice_confuses_the_model(model, ioi_duplicated, measure):
    """Where the indirect object has been named twice, at least half of the logit difference is
    gone, and the subject wins in one prompt of ten or more; not so where a third person was."""
    third = measure(lambda p: logit_diff(model, p.corrupted), on=ioi_duplicated, unit="logits")
    twice = measure(lambda p: logit_diff(model, p.clean), on=ioi_duplicated, unit="logits")
    right = measure(lambda p: correct(model, p.clean), on=ioi_duplicated, unit="share of prompts")
    assert twice / third <= 0.5
    assert right <= 0.9
    assert third >= 1.0
