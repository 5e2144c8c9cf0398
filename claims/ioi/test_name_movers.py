"""IOI: name-mover heads look at the indirect object and copy it."""

import pytest

from claimlens.circuits import attention, attribute, moved

LOOK_AT_IO = ("ioi/backup_name_mover", "copy_suppression/negative_head")


@pytest.mark.claim(
    "ioi/name-movers-attend-io", kind="mechanism", finding="ioi/name-mover-attention"
)
@pytest.mark.role("ioi/name_mover", shared_with=LOOK_AT_IO)
def test_name_movers_attend_to_the_indirect_object(model, ioi, head, measure):
    """A name mover looks from END at the indirect object, more than at either subject.

    Attention that moves nothing is no mechanism: what it moves must raise the object's logit.
    """
    to_io = measure(
        lambda p: attention(model, p.clean, head, "END", "IO"), on=ioi, unit="probability"
    )
    to_s1 = measure(
        lambda p: attention(model, p.clean, head, "END", "S1"), on=ioi, unit="probability"
    )
    to_s2 = measure(
        lambda p: attention(model, p.clean, head, "END", "S2"), on=ioi, unit="probability"
    )
    copied = measure(lambda p: moved(model, p.clean, head, "END", "IO"), on=ioi, unit="logits")
    assert to_io >= 0.3
    assert to_io - to_s1 >= 0.1
    assert to_io - to_s2 >= 0.1
    assert copied >= 0.1


@pytest.mark.claim("ioi/name-movers-raise-io", kind="mechanism", finding="ioi/name-movers")
@pytest.mark.role("ioi/name_mover", shared_with=("ioi/backup_name_mover",))
def test_name_movers_raise_the_indirect_object(model, ioi, head, measure):
    """What a name mover writes at END raises the indirect object's logit over the subject's."""
    to_io = measure(lambda p: attribute(model, p.clean, head, "answer"), on=ioi, unit="logits")
    over_s = measure(lambda p: attribute(model, p.clean, head, "logit_diff"), on=ioi, unit="logits")
    assert to_io >= 0.3
    assert over_s >= 0.3
