"""Copy suppression: what a head looks at, it lowers, on IOI prompts and on running text."""

import pytest

from claimlens.circuits import effect_map, margin_over_others, source_effect, source_effects


@pytest.mark.claim(
    "copy-suppression/source-effect-ioi", kind="mechanism", finding="copy/source-suppression-ioi"
)
@pytest.mark.role("copy_suppression/negative_head")
def test_negative_heads_lower_what_they_attend_to_on_ioi(model, ioi, head, measure):
    """On IOI prompts a negative head lowers the tokens that it attends to by a logit or more, as
    the mean over the sources, weighted by the attention that each is paid."""
    effect = measure(lambda p: source_effect(model, p.clean, head), on=ioi, unit="logits")
    assert effect <= -1.0


@pytest.mark.claim(
    "copy-suppression/source-effect-text",
    kind="mechanism",
    finding="copy/source-suppression-webtext",
)
@pytest.mark.role("copy_suppression/negative_head")
def test_negative_heads_lower_what_they_attend_to_in_text(model, text, head, measure):
    """In running text, too, a negative head lowers the tokens that it attends to by a logit or
    more."""
    effect = measure(lambda p: source_effect(model, p.clean, head), on=text, unit="logits")
    assert effect <= -1.0


@pytest.mark.claim(
    "copy-suppression/source-effect-text-top",
    kind="mechanism",
    finding="copy/source-suppression-webtext",
)
@pytest.mark.role("copy_suppression/negative_head")
def test_no_other_head_lowers_what_it_attends_to_as_much(
    model, text, heads, loaded_model, measure, figure
):
    """In running text no other head lowers the tokens that it attends to as much as the negative
    heads do."""
    shown = loaded_model.vocabulary.words(text.clean)[:10]
    effects = source_effects(model, text.clean)
    figure(effect_map("Effect on the attended token, by source", shown, effects.per_source, heads))
    margin = measure(
        lambda p: margin_over_others(-source_effects(model, p.clean).per_sequence, heads),
        on=text,
        unit="logits",
    )
    assert margin >= 0.5
