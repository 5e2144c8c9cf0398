"""IOI: S-inhibition heads turn the name movers away from the subject."""

import pytest

from claimlens.circuits import attention, logit_diff, resample_ablate


@pytest.mark.claim(
    "ioi/s-inhibition-keeps-logit-diff", kind="mechanism", finding="ioi/s-inhibition"
)
@pytest.mark.role("ioi/s_inhibition", shared_with=("ioi/name_mover", "ioi/duplicate_token"))
def test_without_s_inhibition_the_logit_diff_falls(model, ioi, head, measure):
    """An S-inhibition head looks from END at S2; with its z from ABC prompts the logit
    difference falls."""
    to_s2 = measure(
        lambda p: attention(model, p.clean, head, "END", "S2"), on=ioi, unit="probability"
    )
    clean = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    ablated = measure(
        lambda p: logit_diff(resample_ablate(model, head, p.corrupted), p.clean),
        on=ioi,
        unit="logits",
    )
    assert clean - ablated >= 0.2
    assert to_s2 >= 0.2


@pytest.mark.claim(
    "ioi/s-inhibition-moves-attention", kind="mechanism", finding="ioi/s-inhibition-query"
)
@pytest.mark.role("ioi/s_inhibition", shared_with=("ioi/duplicate_token",))
def test_without_s_inhibition_the_movers_look_at_the_subject(model, ioi, head, roles, measure):
    """With an S-inhibition head's z from ABC prompts, the first name mover's preference for the
    indirect object over the subject (IO - S1 - S2) falls."""
    to_s2 = measure(
        lambda p: attention(model, p.clean, head, "END", "S2"), on=ioi, unit="probability"
    )
    mover = roles["ioi/name_mover"][0]

    def preference(model, p):
        to = {src: attention(model, p.clean, mover, "END", src) for src in ("IO", "S1", "S2")}
        return to["IO"] - to["S1"] - to["S2"]

    clean = measure(lambda p: preference(model, p), on=ioi, unit="probability")
    ablated = measure(
        lambda p: preference(resample_ablate(model, head, p.corrupted), p),
        on=ioi,
        unit="probability",
    )
    assert clean - ablated >= 0.05
    assert to_s2 >= 0.2
