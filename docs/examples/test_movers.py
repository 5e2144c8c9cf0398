"""My first claim."""

import pytest

from claimlens.circuits import attribute


@pytest.mark.claim("mine/movers-raise-io", kind="mechanism", source="our own notebook, 2026")
@pytest.mark.role("ioi/name_mover", shared_with=("ioi/backup_name_mover",))
def test_movers(model, ioi, head, measure):
    """What a name mover writes at END raises the indirect object's logit over the subject's."""
    raised = measure(lambda p: attribute(model, p.clean, head, "logit_diff"), on=ioi, unit="logits")
    assert raised >= 0.3
