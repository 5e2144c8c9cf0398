"""Copy suppression: negative heads lower the logit of the token they attend to."""

import pytest

from claimlens.circuits import attention, copy_effect, margin_over_others, moved


@pytest.mark.claim(
    "copy-suppression/negative-heads-lower-io",
    kind="mechanism",
    finding="copy/source-suppression-ioi",
)
@pytest.mark.role("copy_suppression/negative_head")
def test_negative_heads_lower_the_logit_of_what_they_attend_to(model, ioi, head, measure):
    """A negative head lowers the indirect object's logit by looking at it from END."""
    to_io = measure(
        lambda p: attention(model, p.clean, head, "END", "IO"), on=ioi, unit="probability"
    )
    on_io = measure(lambda p: moved(model, p.clean, head, "END", "IO"), on=ioi, unit="logits")
    assert on_io <= -0.2
    assert to_io >= 0.1


@pytest.mark.claim(
    "copy-suppression/negative-heads-are-the-top",
    kind="mechanism",
    finding="copy/source-suppression-ioi",
)
@pytest.mark.role("copy_suppression/negative_head")
def test_negative_heads_suppress_most_of_all_heads(model, ioi, heads, measure):
    """No other head lowers the indirect object's logit by attending to it as the negative heads
    do."""
    margin = measure(
        lambda p: margin_over_others(-copy_effect(model, p.clean, "IO"), heads),
        on=ioi,
        unit="logits",
    )
    assert margin >= 0.2
