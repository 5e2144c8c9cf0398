"""IOI: the model gives the object to the indirect object."""

import pytest

from claimlens.circuits import correct, logit_diff


@pytest.mark.claim("ioi/logit-diff", kind="behaviour", finding="ioi/task")
def test_the_indirect_object_beats_the_subject(model, ioi, measure):
    """After END the indirect object's logit is above the subject's, by more than a nat."""
    assert measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits") >= 1.0


@pytest.mark.claim("ioi/accuracy", kind="behaviour", finding="ioi/task")
def test_most_prompts_name_the_indirect_object(model, ioi, measure):
    """In nine prompts of ten the indirect object's logit is above the subject's."""
    assert measure(lambda p: correct(model, p.clean), on=ioi, unit="share of prompts") >= 0.9
