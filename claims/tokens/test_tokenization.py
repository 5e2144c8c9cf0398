"""Tokens: the prompts are what their text says, and padding and BOS do what is assumed of them."""

import pytest

from claimlens.circuits import logit_diff
from claimlens.circuits.kernels.padding import padding_gap

DEMO = "TransformerLens main demo (seed 002): to_tokens, to_str_tokens, get_token_position"


@pytest.mark.claim("tokens/ioi-round-trip", kind="identity", source=DEMO)
def test_the_tokens_of_a_prompt_are_those_of_its_text(model, loaded_model, ioi, measure):
    """Decoded and encoded anew, every IOI prompt, clean and corrupted, is the same tokens."""
    words = loaded_model.vocabulary
    clean = measure(lambda p: words.round_trips(p.clean), on=ioi, unit="share", exact=True)
    corrupted = measure(lambda p: words.round_trips(p.corrupted), on=ioi, unit="share", exact=True)
    assert clean >= 1.0
    assert corrupted >= 1.0


@pytest.mark.claim("tokens/quotes-round-trip", kind="identity", source=DEMO)
def test_the_tokens_of_a_quotation_are_those_of_its_text(model, loaded_model, quotes, measure):
    """Decoded and encoded anew, every quotation is the same tokens."""
    words = loaded_model.vocabulary
    assert measure(lambda p: words.round_trips(p.clean), on=quotes, unit="share", exact=True) >= 1.0


@pytest.mark.claim("tokens/sides-correspond", kind="identity", source=DEMO)
def test_clean_and_corrupted_prompts_have_their_labels_in_the_same_places(model, ioi, measure):
    """IO, S1, S2 and END stand at the same positions of a clean and its corrupted prompt."""

    def same(p):
        labels = ("IO", "S1", "S2", "END")
        return sum((p.clean.at(n) == p.corrupted.at(n))[:, 0].int() for n in labels) == len(labels)

    assert measure(same, on=ioi, unit="share", exact=True) >= 1.0


@pytest.mark.claim("tokens/padding-changes-nothing", kind="identity", source=DEMO)
def test_padding_changes_no_prediction(model, ioi, measure):
    """Run without its padding, a prompt has the same log-probs after END."""
    assert measure(lambda p: padding_gap(model, p.clean), on=ioi, unit="nats", exact=True) <= 1e-3


@pytest.mark.claim(
    "tokens/bos-matters",
    kind="behaviour",
    finding="demo/prepend-bos",
    expected={"planted": "refuted"},
)
def test_without_bos_the_logit_difference_is_lower(model, ioi, measure):
    """The same prompts without BOS have a logit difference that is lower by at least half a logit.

    A figure taken without saying which of the two was measured says nothing.
    """
    given = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    without = measure(lambda p: logit_diff(model, p.without_bos().clean), on=ioi, unit="logits")
    assert given >= 1.0
    assert given - without >= 0.5
