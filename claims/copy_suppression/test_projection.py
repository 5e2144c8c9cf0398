"""Copy suppression: a negative head acts on the loss through its source tokens' unembeddings."""

import pytest

from claimlens.circuits import loss_change, projection_gap


@pytest.mark.claim(
    "copy-suppression/projection-keeps-the-loss", kind="mechanism", finding="copy/loss-11.10"
)
@pytest.mark.role("copy_suppression/negative_head")
def test_the_projection_keeps_much_of_the_effect_on_the_loss(model, text, head, measure):
    """What a negative head writes against the unembeddings of the tokens attended to keeps at
    least a quarter of its direct effect on the loss, taken as its size token by token."""
    nothing, projection = (
        measure(
            lambda p, keep=keep: loss_change(
                model, p.clean, head, keep, negative_only=True, size=True, at="PROBE"
            ),
            on=text,
            unit="nats/token",
        )
        for keep in ("nothing", "projection")
    )
    assert (nothing - projection) / nothing >= 0.25
    assert nothing >= 0.002


@pytest.mark.claim(
    "copy-suppression/projection-over-the-rest", kind="mechanism", finding="copy/loss-10.7"
)
@pytest.mark.role("copy_suppression/negative_head")
def test_the_projection_matters_more_than_the_rest(model, text, heads, measure):
    """Losing the negative heads' direct output costs loss, and losing what they write against the
    unembeddings of the tokens attended to costs more than losing all the rest; summed over the
    heads, taken one at a time."""

    def cost(keep):
        return measure(
            lambda p: sum(
                loss_change(model, p.clean, head, keep, negative_only=True) for head in heads
            ),
            on=text,
            unit="nats/token",
        )

    assert cost("nothing") >= 0.002
    assert cost("perpendicular") - cost("projection") >= 0.002


@pytest.mark.claim(
    "copy-suppression/parts-add-up",
    kind="identity",
    source="copy-suppression notebook (seed 001), hook_fn_at_scale",
)
def test_projection_and_perpendicular_part_add_up_to_the_ablation(model, text, measure):
    """For every head and token of the vocabulary, what keeping the projection and what keeping the
    perpendicular part change in the logits add up to what ablating the head changes."""
    gap = measure(
        lambda p: projection_gap(model, p.clean, at="END"), on=text, unit="logits", exact=True
    )
    assert gap <= 1e-3
