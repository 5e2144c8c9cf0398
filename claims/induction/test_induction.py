"""Induction: what followed the last time is predicted again."""

import pytest

from claimlens.circuits import (
    attention,
    excess_over_others,
    label_scores,
    loss,
    moved,
    zero_ablate,
)


@pytest.mark.claim("induction/loss-drop", kind="behaviour", finding="demo/induction-loss")
def test_repeated_tokens_are_predicted(model, repeated_tokens, measure):
    """Random tokens are predicted better by more than a nat when they come a second time."""
    first = measure(lambda p: loss(model, p.clean, "FIRST"), on=repeated_tokens, unit="nats/token")
    again = measure(lambda p: loss(model, p.clean, "REPEAT"), on=repeated_tokens, unit="nats/token")
    assert first - again >= 1.0


@pytest.mark.claim("induction/induction-heads", kind="mechanism", finding="demo/induction-heads")
@pytest.mark.role("induction/induction_head")
def test_induction_heads_attend_after_the_earlier_copy(model, repeated_tokens, head, measure):
    """An induction head looks at the token after the earlier copy, and raises its logit."""
    after_copy = measure(
        lambda p: attention(model, p.clean, head, "REPEAT", "FIRST+1"),
        on=repeated_tokens,
        unit="probability",
    )
    copied = measure(
        lambda p: moved(model, p.clean, head, "REPEAT", "FIRST+1"),
        on=repeated_tokens,
        unit="logits",
    )
    assert after_copy >= 0.3
    assert copied >= 0.1


@pytest.mark.claim("induction/previous-token-heads", kind="mechanism", finding="ioi/previous-token")
@pytest.mark.role("induction/previous_token")
def test_previous_token_heads_feed_induction(model, repeated_tokens, head, measure):
    """A previous-token head looks one token back, and without it repeats are predicted worse."""
    back = measure(
        lambda p: attention(model, p.clean, head, "REPEAT", "REPEAT-1"),
        on=repeated_tokens,
        unit="probability",
    )
    assert back >= 0.3
    clean = measure(lambda p: loss(model, p.clean, "REPEAT"), on=repeated_tokens, unit="nats/token")
    ablated = measure(
        lambda p: loss(zero_ablate(model, head), p.clean, "REPEAT"),
        on=repeated_tokens,
        unit="nats/token",
    )
    assert ablated - clean >= 0.1


@pytest.mark.claim("induction/at-the-second-subject", kind="mechanism", finding="ioi/induction")
@pytest.mark.role("induction/induction_head")
def test_induction_heads_look_after_the_first_subject_from_the_second(model, ioi, heads, measure):
    """In IOI prompts, too, the induction heads look from S2 at the token after S1, by a fifth of
    their attention more than the other heads do, and raise the logit of what stands there by a
    tenth or more: they expect the subject to be followed as it was."""
    excess = measure(
        lambda p: excess_over_others(label_scores(model, p.clean, "S2", "S1+1"), heads),
        on=ioi,
        unit="probability",
    )
    raised = measure(
        lambda p: sum(moved(model, p.clean, head, "S2", "S1+1") for head in heads) / len(heads),
        on=ioi,
        unit="logits",
    )
    assert excess >= 0.2
    assert raised >= 0.1
