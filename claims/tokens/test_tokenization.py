"""Tokens: the prompts are what their text says, and padding and BOS do what is assumed of them."""

from functools import partial

import pytest

from claimlens.circuits import logit_diff
from claimlens.circuits.kernels.padding import padding_gap

DEMO = "TransformerLens main demo (seed 002): to_tokens, to_str_tokens, get_token_position"
PATTERN = "SAE notebook (seed 003): prompts of a data set cut before their closing quotation mark"


def correspond(labels, p):
    """Whether every one of these labels stands in the same place on both sides of a pair."""
    return sum((p.clean.at(n) == p.corrupted.at(n))[:, 0].int() for n in labels) == len(labels)


@pytest.mark.claim("tokens/ioi-round-trip", kind="identity", source=DEMO)
def test_the_tokens_of_a_prompt_are_those_of_its_text(model, loaded_model, ioi, measure):
    """Decoded and encoded anew, every IOI prompt, clean and corrupted, is the same tokens."""
    words = loaded_model.vocabulary
    clean = measure(lambda p: words.round_trips(p.clean), on=ioi, unit="share", exact=True)
    corrupted = measure(lambda p: words.round_trips(p.corrupted), on=ioi, unit="share", exact=True)
    assert clean >= 1.0
    assert corrupted >= 1.0


@pytest.mark.claim("tokens/ioi-variants-round-trip", kind="identity", source=DEMO)
def test_so_are_those_of_its_variants(model, loaded_model, ioi_swapped, ioi_duplicated, measure):
    """Decoded and encoded anew, the prompts with S2 swapped and those with a name named once more,
    clean and corrupted, are the same tokens."""
    words = loaded_model.vocabulary
    for pairs in (ioi_swapped, ioi_duplicated):
        clean = measure(lambda p: words.round_trips(p.clean), on=pairs, unit="share", exact=True)
        other = measure(
            lambda p: words.round_trips(p.corrupted), on=pairs, unit="share", exact=True
        )
        assert clean >= 1.0
        assert other >= 1.0


@pytest.mark.claim("tokens/names-round-trip", kind="identity", source=DEMO)
def test_a_name_is_one_token_that_comes_back(model, loaded_model, names, measure):
    """Decoded and encoded anew, every name of the prompts of one name is the same token."""
    words = loaded_model.vocabulary
    assert measure(lambda p: words.round_trips(p.clean), on=names, unit="share", exact=True) >= 1.0


@pytest.mark.claim("tokens/text-round-trip", kind="identity", source=DEMO)
def test_the_tokens_of_running_text_are_those_of_its_text(model, loaded_model, text, measure):
    """Decoded and encoded anew, every running text is the same tokens."""
    words = loaded_model.vocabulary
    assert measure(lambda p: words.round_trips(p.clean), on=text, unit="share", exact=True) >= 1.0


@pytest.mark.claim("tokens/quotes-round-trip", kind="identity", source=DEMO, version=2)
def test_the_tokens_of_a_quotation_are_those_of_its_text(model, loaded_model, quotes, measure):
    """Decoded and encoded anew, every quotation, clean and corrupted, is the same tokens."""
    words = loaded_model.vocabulary
    clean = measure(lambda p: words.round_trips(p.clean), on=quotes, unit="share", exact=True)
    other = measure(lambda p: words.round_trips(p.corrupted), on=quotes, unit="share", exact=True)
    assert clean >= 1.0
    assert other >= 1.0


@pytest.mark.claim("tokens/patterns-cut-the-quotations", kind="identity", source=PATTERN)
def test_a_pattern_cuts_the_quotations_out_of_whole_sentences(
    model, loaded_model, quotes, pattern, measure
):
    """Cut by a pattern out of sentences with their closing mark, the quotations are the same tokens
    with OPEN and END in the same places, and come back when decoded and encoded anew."""
    words = loaded_model.vocabulary
    cut = pattern([f'{text}"' for text in quotes.texts], '"', '"')
    whole = quotes.select([int(id.removeprefix("document-")) for id in cut.ids]).clean

    def same(p):
        placed = (p.clean.at("OPEN") == whole.at("OPEN")) & (p.clean.at("END") == whole.at("END"))
        return placed[:, 0] & (p.clean.tokens == whole.tokens[:, : p.clean.tokens.shape[1]]).all(1)

    back = measure(lambda p: words.round_trips(p.clean), on=cut, unit="share", exact=True)
    assert back >= 1.0
    assert measure(same, on=cut, unit="share", exact=True) >= 1.0


@pytest.mark.claim("tokens/sides-correspond", kind="identity", source=DEMO)
def test_clean_and_corrupted_prompts_have_their_labels_in_the_same_places(model, ioi, measure):
    """IO, S1, S2 and END stand at the same positions of a clean and its corrupted prompt."""
    labels = ("IO", "S1", "S2", "END")
    assert measure(partial(correspond, labels), on=ioi, unit="share", exact=True) >= 1.0


@pytest.mark.claim("tokens/sides-of-variants-correspond", kind="identity", source=DEMO)
def test_so_have_its_variants(model, ioi_swapped, ioi_duplicated, measure):
    """So they do in the prompts with S2 swapped, and with MENTION in those with a name named once
    more."""
    swapped = partial(correspond, ("IO", "S1", "S2", "END"))
    duplicated = partial(correspond, ("IO", "S1", "S2", "MENTION", "END"))
    assert measure(swapped, on=ioi_swapped, unit="share", exact=True) >= 1.0
    assert measure(duplicated, on=ioi_duplicated, unit="share", exact=True) >= 1.0


@pytest.mark.claim("tokens/sides-of-quotes-correspond", kind="identity", source=DEMO)
def test_quotations_and_bracketed_remarks_have_their_labels_in_the_same_places(
    model, quotes, measure
):
    """OPEN and END stand at the same positions of a quotation and its bracketed twin."""
    same = partial(correspond, ("OPEN", "END"))
    assert measure(same, on=quotes, unit="share", exact=True) >= 1.0


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
