"""Induction over training: it forms between two checkpoints, and so do the heads that do it."""

from functools import partial

import pytest

from claimlens.circuits import (
    halves,
    label_scores,
    loss,
    over_seen_guess,
    steepest_fall,
)
from claimlens.circuits.figures import Line, LineGrid, Panel


def turn(checkpoints, tokens):
    """After which checkpoint the loss on repeated tokens falls most."""
    return steepest_fall([loss(model, tokens.clean, "REPEAT") for model in checkpoints.models])


@pytest.mark.claim(
    "induction/repeats-cheaper-than-a-guess", kind="behaviour", finding="demo/induction-loss"
)
def test_repeats_cost_less_than_a_guess_among_the_tokens_seen(model, repeated_tokens, measure):
    """To predict a repeated token costs the model less than a guess among the tokens seen so far,
    by half a nat or more: it knows which of them comes next."""
    gap = measure(partial(over_seen_guess, model), on=repeated_tokens, unit="nats/token")
    assert gap <= -0.5


@pytest.mark.claim(
    "induction/appears-in-training", kind="behaviour", finding="demo/induction-phase-change"
)
def test_induction_appears_between_two_checkpoints(checkpoints, repeated_tokens, measure, figure):
    """Up to one checkpoint of the training, repeated tokens cost more than a guess among the tokens
    seen so far; from the next one on they cost less. On other prompts than the two are found on."""
    search, held_out = halves(repeated_tokens)
    gaps = [
        measure(partial(over_seen_guess, model), on=held_out, unit="nats/token")
        for model in checkpoints.models
    ]
    panel = Panel("mean over prompts", [Line("loss over a guess", [gap.value for gap in gaps])])
    title = "Induction loss over training"
    figure(LineGrid(title, "tokens trained on", "nats", checkpoints.tokens, [[panel]]))
    before = turn(checkpoints, search) + 1
    for early in gaps[:before]:
        assert early >= 0.5
    for late in gaps[before:]:
        assert late <= -0.2


@pytest.mark.claim(
    "induction/heads-form-in-training", kind="mechanism", finding="demo/induction-phase-change"
)
@pytest.mark.role("induction/induction_head")
def test_induction_heads_form_between_the_same_two(checkpoints, repeated_tokens, heads, measure):
    """Between the two checkpoints where induction appears, the heads that do it in the end come to
    look at the token after the earlier copy, by a fifth of their attention more."""
    after = turn(checkpoints, repeated_tokens) + 1

    def score(model, p):
        every = label_scores(model, p.clean, "REPEAT", "FIRST+1")
        return sum(every[:, head.layer, head.index] for head in heads) / len(heads)

    old, new = (
        measure(partial(score, model), on=repeated_tokens, unit="probability")
        for model in checkpoints.models[after - 1 : after + 1]
    )
    assert new - old >= 0.2
