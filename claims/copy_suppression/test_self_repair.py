"""Copy suppression repairs: where nothing is copied, there is nothing to suppress."""

import pytest

from claimlens.circuits import attribute, logit_diff, zero_ablate


@pytest.mark.claim(
    "copy-suppression/self-repair",
    kind="mechanism",
    finding="copy/self-repair-share",
    expected={"default": "refuted"},  # its movers' output is not made up for: see its card
)
@pytest.mark.role(
    "copy_suppression/negative_head", shared_with=("ioi/backup_name_mover", "ioi/name_mover")
)
def test_negative_heads_make_up_for_lost_name_movers(model, ioi, heads, roles, measure):
    """Without the name movers the logit difference falls by less than they gave it; at least a
    fifth of what makes up for them is that the negative heads suppress less."""
    movers = roles["ioi/name_mover"]
    without = zero_ablate(model, movers)

    def given(p, part):
        return sum(attribute(model, p.clean, head, "logit_diff") for head in part)

    def left(p):
        return sum(
            attribute(without, p.clean, head, "logit_diff", scale_of=model) for head in heads
        )

    lost = measure(lambda p: given(p, movers), on=ioi, unit="logits")
    fall = measure(
        lambda p: logit_diff(model, p.clean) - logit_diff(without, p.clean), on=ioi, unit="logits"
    )
    rise = measure(lambda p: left(p) - given(p, heads), on=ioi, unit="logits")
    assert lost - fall >= 0.5
    assert rise / (lost - fall) >= 0.2
