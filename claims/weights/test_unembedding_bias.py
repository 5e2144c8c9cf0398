"""The unembedding bias: what a model prefers before it has read anything."""

import pytest
import torch

from claimlens.circuits import logit_diff
from claimlens.circuits.kernels.unembedding_bias import bias_between, bias_of

FREQUENT = ("the", "and", "to", "a")


@pytest.mark.claim(
    "weights/bias-favours-frequent-words", kind="weights", finding="demo/unembed-bias"
)
def test_the_unembedding_bias_favours_frequent_words(model, loaded_model, measure):
    """The unembedding bias of "the", "and", "to" and "a" is above the vocabulary's mean by half a
    logit or more."""
    words = loaded_model.vocabulary.single(FREQUENT)
    ids = torch.tensor(list(words.values()), device=model.cfg.device)
    above = measure(lambda: bias_of(model, ids).mean(), unit="logits")
    assert above >= 0.5


@pytest.mark.claim("weights/ioi-beyond-the-bias", kind="behaviour", finding="demo/unembed-bias")
def test_the_unembedding_bias_does_not_solve_ioi(model, ioi, measure):
    """Without what the unembedding bias gives the one name over the other, the indirect object
    still beats the subject by a logit or more."""
    whole = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    given = measure(lambda p: bias_between(model, p.clean), on=ioi, unit="logits")
    assert whole - given >= 1.0
