"""Induction, previous-token and duplicate-token scores of every head, from one forward pass."""

import pytest

from claimlens.circuits import (
    excess_over_others,
    half_of,
    head_pattern,
    label_scores,
    logit_diff,
    loss,
    loss_by_position,
    margin_over_others,
    resample_ablate,
    stripe,
)
from claimlens.circuits.figures import Heatmap, Line, LineGrid, Panel


@pytest.mark.claim("induction/loss-drop-no-bos", kind="behaviour", finding="demo/induction-loss")
def test_repeats_are_predicted_without_bos(model, repeated_tokens_no_bos, measure, figure):
    """Without a BOS token to rest on, too, random tokens are predicted better by more than a nat
    when they come a second time."""
    tokens = repeated_tokens_no_bos
    first = measure(lambda p: loss(model, p.clean, "FIRST"), on=tokens, unit="nats/token")
    again = measure(lambda p: loss(model, p.clean, "REPEAT"), on=tokens, unit="nats/token")
    nats = loss_by_position(model, tokens.clean).mean(0).tolist()
    panel = Panel("mean over prompts", [Line("loss", nats)])
    title = "Loss on random tokens, twice"
    figure(LineGrid(title, "position", "nats", list(range(len(nats))), [[panel]]))
    assert first - again >= 1.0


@pytest.mark.claim(
    "induction/induction-heads-are-the-top", kind="mechanism", finding="demo/induction-heads"
)
@pytest.mark.role("induction/induction_head")
def test_no_other_head_has_such_an_induction_score(model, repeated_tokens, heads, measure, figure):
    """The weakest induction head looks at the token after the earlier copy more than any other
    head of the model does."""
    margin = measure(
        lambda p: margin_over_others(label_scores(model, p.clean, "REPEAT", "FIRST+1"), heads),
        on=repeated_tokens,
        unit="probability",
    )
    scores = label_scores(model, repeated_tokens.clean, "REPEAT", "FIRST+1").mean(0)
    size, marked = scores.shape, [(head.layer, head.index) for head in heads]
    axes = ("head", "layer", range(size[1]), range(size[0]))
    figure(Heatmap("Induction score by head", *axes, scores.tolist(), marked))
    assert margin >= 0.1


@pytest.mark.claim(
    "induction/stripe-without-bos", kind="mechanism", finding="demo/induction-heads-distilgpt2"
)
@pytest.mark.role("induction/induction_head")
def test_induction_heads_have_a_stripe_without_bos(
    model, repeated_tokens_no_bos, head, measure, figure
):
    """On random tokens without BOS, too, an induction head looks one less than the repeated
    length back, with a fifth of its attention or more."""

    def score(p):
        return label_scores(model, p.clean, "REPEAT", "FIRST+1")[:, head.layer, head.index]

    pattern = head_pattern(model, repeated_tokens_no_bos.clean, head)[0]
    axes = ("source", "destination", range(len(pattern)), range(len(pattern)))
    figure(Heatmap(f"Attention of {head} on the first prompt", *axes, pattern.tolist()))
    assert measure(score, on=repeated_tokens_no_bos, unit="probability") >= 0.2


@pytest.mark.claim("induction/previous-token-score", kind="mechanism", finding="ioi/previous-token")
@pytest.mark.role("induction/previous_token")
def test_previous_token_heads_look_one_back_more_than_others(
    model, repeated_tokens, heads, measure
):
    """Previous-token heads look one token back more than the other heads do on average."""
    excess = measure(
        lambda p: excess_over_others(label_scores(model, p.clean, "REPEAT", "REPEAT-1"), heads),
        on=repeated_tokens,
        unit="probability",
    )
    assert excess >= 0.2


@pytest.mark.claim(
    "induction/duplicate-token-score", kind="mechanism", finding="ioi/duplicate-token"
)
@pytest.mark.role("ioi/duplicate_token")
def test_duplicate_token_heads_look_at_earlier_copies(model, repeated_tokens, ioi, heads, measure):
    """Duplicate-token heads look at the earlier copy of a token more than the other heads do on
    average, and without what they write the logit difference of IOI falls."""
    excess = measure(
        lambda p: excess_over_others(label_scores(model, p.clean, "REPEAT", "FIRST"), heads),
        on=repeated_tokens,
        unit="probability",
    )
    assert excess >= 0.1
    clean = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    ablated = measure(
        lambda p: logit_diff(resample_ablate(model, heads, p.corrupted), p.clean),
        on=ioi,
        unit="logits",
    )
    assert clean - ablated >= 0.2


@pytest.mark.claim(
    "induction/stripe-is-the-labels", kind="identity", finding="demo/induction-heads"
)
def test_the_stripe_of_the_demo_is_that_of_the_labels(model, repeated_tokens_no_bos, measure):
    """The induction stripe, begun where the repetition can be known, is the attention between
    the labels; from where the demo begins it, it holds two destinations that are no induction."""

    def differ(p):
        half = half_of(p.clean)
        labelled = label_scores(model, p.clean, "REPEAT", "FIRST+1")
        return (stripe(model, p.clean, half - 1, half + 1) - labelled).abs().amax((1, 2))

    assert measure(differ, on=repeated_tokens_no_bos, unit="probability", exact=True) <= 1e-5
