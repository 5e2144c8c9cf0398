"""IOI: duplicate-token heads look from the second mention of the subject back at the first."""

import pytest

from claimlens.circuits import attention, logit_diff, resample_ablate


@pytest.mark.claim("ioi/duplicate-token-heads", kind="mechanism", finding="ioi/duplicate-token")
@pytest.mark.role("ioi/duplicate_token", shared_with=("ioi/s_inhibition", "ioi/name_mover"))
def test_duplicate_token_heads_attend_from_s2_to_s1(model, ioi, head, measure):
    """A duplicate-token head looks from S2 at S1, and without what it writes the logit
    difference falls."""
    to_s1 = measure(
        lambda p: attention(model, p.clean, head, "S2", "S1"), on=ioi, unit="probability"
    )
    clean = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    ablated = measure(
        lambda p: logit_diff(resample_ablate(model, head, p.corrupted), p.clean),
        on=ioi,
        unit="logits",
    )
    assert clean - ablated >= 0.2
    assert to_s1 >= 0.2
