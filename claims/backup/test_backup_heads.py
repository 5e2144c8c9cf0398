"""Self-repair: backup heads take over when the name movers are knocked out."""

import pytest

from claimlens.circuits import attribute, zero_ablate


@pytest.mark.claim("backup/rise-after-knockout", kind="mechanism", finding="ioi/backup-name-movers")
@pytest.mark.role("ioi/backup_name_mover", shared_with=("copy_suppression/negative_head",))
def test_backup_heads_rise_when_the_name_movers_are_gone(model, ioi, head, roles, measure):
    """Without the name movers, a backup head's direct effect on the logit difference rises.

    The final LayerNorm's scale is kept, so that the rise is the head's own.
    """
    movers = roles["ioi/name_mover"]
    before = measure(lambda p: attribute(model, p.clean, head, "logit_diff"), on=ioi, unit="logits")
    after = measure(
        lambda p: attribute(
            zero_ablate(model, movers), p.clean, head, "logit_diff", scale_of=model
        ),
        on=ioi,
        unit="logits",
    )
    assert after - before >= 0.1
