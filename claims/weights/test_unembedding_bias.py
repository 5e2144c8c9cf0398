"""The unembedding bias: what a model prefers before it has read anything."""

import pytest
import torch

from claimlens.circuits import logit_diff
from claimlens.circuits.kernels.unembedding_bias import (
    bias_between,
    bias_frequency_correlation,
    bias_of,
    bias_ratio,
)

FREQUENT = ("the", "and", "to", "a")
IOI = "After John and Mary went to the store, Mary gave a bottle of milk to"
"""The sentence of the demo (seed 002)."""


@pytest.mark.claim(
    "weights/bias-favours-frequent-words", kind="weights", finding="demo/unembed-bias"
)
def test_the_unembedding_bias_favours_frequent_words(model, loaded_model, measure):
    """The unembedding bias of "the", "and", "to" and "a" is above the vocabulary's mean by half a
    logit or more."""
    ids = torch.tensor(loaded_model.vocabulary.ids(FREQUENT), device=model.cfg.device)
    above = measure(lambda: bias_of(model, ids).mean(), unit="logits")
    assert above >= 0.5


@pytest.mark.claim("weights/ioi-beyond-the-bias", kind="behaviour", finding="demo/unembed-bias")
def test_the_unembedding_bias_does_not_solve_ioi(model, ioi, measure):
    """Without what the unembedding bias gives the one name over the other, the indirect object
    still beats the subject by a logit or more."""
    whole = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    given = measure(lambda p: bias_between(model, p.clean), on=ioi, unit="logits")
    assert whole - given >= 1.0


@pytest.mark.claim(
    "weights/bias-of-john-and-mary",
    kind="weights",
    finding="demo/unembed-bias",
    expected={"default": "refuted"},  # the figures are GPT-2's
)
def test_the_bias_between_the_names_of_the_demo(model, loaded_model, sentence, measure):
    """The unembedding bias is 2.90 for John and 1.60 for Mary, each within .05, which alone makes
    John 3.655 times as likely, within .2, as the demo found for GPT-2."""
    names = sentence(IOI, "John", "Mary")
    ids = torch.tensor(loaded_model.vocabulary.ids(("John", "Mary")), device=model.cfg.device)
    john, mary = (measure(bias_of(model, ids)[i], unit="logits") for i in range(2))
    ratio = measure(lambda p: bias_ratio(model, p.clean), on=names, unit="ratio", exact=True)
    for found, low, high in ((john, 2.85, 2.95), (mary, 1.553, 1.653), (ratio, 3.455, 3.855)):
        assert found >= low
        assert found <= high


@pytest.mark.claim("weights/bias-follows-frequency", kind="weights", finding="demo/unembed-bias")
def test_the_unembedding_bias_rises_with_the_frequency_of_a_token(model, running_text, measure):
    """Over the tokens of running text, the unembedding bias and the number of times that a token
    occurs have a rank correlation of .2 or more."""
    p = running_text().clean
    place = torch.arange(p.tokens.shape[1], device=p.tokens.device)
    told = p.tokens[(place > 0) & (place < p.lengths[:, None])]  # neither BOS nor padding
    assert measure(lambda: bias_frequency_correlation(model, told), unit="correlation") >= 0.2
