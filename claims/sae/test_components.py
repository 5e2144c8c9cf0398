"""Direct logit attribution: what components add to the answer, and what an SAE keeps of it."""

import pytest

from claimlens.circuits import decompose, split_mlp
from claimlens.circuits.metrics import end_logits, logit_diff


@pytest.mark.claim(
    "attribution/parts-sum-to-the-logit",
    kind="identity",
    source="seed 003, DLA; Elhage et al. 2021: the residual stream is a sum",
)
def test_the_components_add_up_to_the_logit_difference(model, ioi, measure, figure):
    """What embeddings, heads, MLPs and biases add, with the final norm's scale frozen, is together
    the logit difference, prompt by prompt."""
    found = decompose(model, ioi.clean, "logit_diff")
    gap = (found.total - logit_diff(model, ioi.clean)).abs()
    assert measure(gap, on=ioi, unit="logits", exact=True) <= 1e-3
    figure(found.bars("What each component adds to the logit difference", "logits"))


@pytest.mark.claim(
    "sae/components-of-the-mark", kind="identity", source="seed 003, DLA of the closing mark"
)
def test_the_components_add_up_to_the_marks_logit(model, quotes, measure, figure):
    """The same for the closing quotation mark's own logit, over the vocabulary's mean."""
    found = decompose(model, quotes.clean)
    logits = end_logits(model, quotes.clean).gather(1, quotes.clean.answer[:, None])[:, 0]
    assert measure((found.total - logits).abs(), on=quotes, unit="logits", exact=True) <= 1e-3
    figure(found.bars("What each component adds to the closing mark", "logits"))


@pytest.mark.claim(
    "sae/split-is-the-mlp", kind="identity", source="seed 003, MLP remainder: MLP - reconstruction"
)
def test_reconstruction_and_error_are_the_mlp(model, quotes, sae, measure):
    """What the reconstruction and the error add to the closing mark is what the MLP adds."""
    layer = sae.hook.split(".")[1]
    mlp = decompose(model, quotes.clean).of(f"MLP{layer}")
    gap = (split_mlp(model, quotes.clean, sae).total - mlp).abs()
    assert measure(gap, on=quotes, unit="logits", exact=True) <= 1e-3


@pytest.mark.claim(
    "sae/the-mlp-is-its-reconstruction",
    kind="behaviour",
    source="seed 003, MLP remainder: attribution of MLP, reconstruction and remainder",
)
def test_most_of_the_mlps_attribution_is_in_the_reconstruction(model, quotes, sae, measure, figure):
    """The MLP raises the closing mark by a logit or more, and the reconstruction holds at least
    three quarters of that."""
    mlp = measure(lambda p: split_mlp(model, p.clean, sae).total, on=quotes, unit="logits")
    kept = measure(
        lambda p: split_mlp(model, p.clean, sae).of("reconstruction"), on=quotes, unit="logits"
    )
    assert mlp >= 1.0
    assert kept / mlp >= 0.75
    found = split_mlp(model, quotes.clean, sae)
    figure(found.bars("The MLP's attribution to the closing mark", "logits"))
