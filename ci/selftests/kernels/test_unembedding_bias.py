"""The unembedding bias against the twin, and what models without one say."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
import torch

from claimlens.ci.selftests import architectures, twin_weights
from claimlens.ci.selftests.kernels.samples import agree
from claimlens.ci.selftests.twin import Twin
from claimlens.circuits.kernels.unembedding_bias import (
    bias_between,
    bias_extremes,
    bias_frequency_correlation,
    bias_of,
    bias_ratio,
)
from claimlens.circuits.metrics import answer_tokens
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured
from claimlens.fixtures.bench import Bench


def test_the_bias_of_tokens(model: Any, twin: Twin) -> None:
    tokens = torch.tensor([3, 1, 3])
    agree(bias_of(model, tokens), twin_weights.bias(twin)[tokens])


def test_the_bias_between_answers_and_its_ratio(model: Any, twin: Twin, clean: Prompts) -> None:
    bias, (answer, wrong) = twin_weights.bias(twin), answer_tokens(clean)
    agree(bias_between(model, clean), bias[answer] - bias[wrong])
    agree(bias_ratio(model, clean), (bias[answer] - bias[wrong]).exp(), 1e-4)
    assert math.exp(2.8995 - 1.6034) == pytest.approx(3.655, abs=1e-3)  # the demo's John and Mary


def test_it_is_what_the_softmax_sees_before_anything_is_read(model: Any, clean: Prompts) -> None:
    """With nothing in the residual stream, the bias alone sets the odds."""
    from claimlens.circuits.kernels.cache import Edit, cache, edited

    last = f"blocks.{int(model.cfg.n_layers) - 1}.hook_resid_post"
    blank = edited(model, Edit(last, torch.zeros_like, "nothing read"))
    odds = cache(blank, clean).logits[:, 0].softmax(-1)
    answer, wrong = answer_tokens(clean)
    rows = torch.arange(len(clean))
    agree(bias_ratio(model, clean), odds[rows, answer] / odds[rows, wrong], 1e-9)


def test_the_ends_of_the_bias(model: Any, twin: Twin) -> None:
    order = twin_weights.bias(twin).argsort(descending=True).tolist()
    found = bias_extremes(model, 7)
    assert [token for token, _ in found.top] == order[:7]
    assert [token for token, _ in found.bottom] == order[::-1][:7]
    values = twin_weights.bias(twin)[order[:7]].tolist()
    assert [value for _, value in found.top] == pytest.approx(values, abs=1e-5)


def test_k_must_leave_a_token_out(model: Any) -> None:
    for k in (0, int(model.cfg.d_vocab), int(model.cfg.d_vocab) + 1):
        with pytest.raises(ValueError, match=f"k={k} of .* tokens of the vocabulary"):
            bias_extremes(model, k)


def test_it_rises_with_the_count_of_a_token(model: Any, twin: Twin) -> None:
    order = twin_weights.bias(twin).argsort()[:40]
    rising = torch.cat([token.repeat(1 + rank) for rank, token in enumerate(order)])
    assert float(bias_frequency_correlation(model, rising)) == pytest.approx(1)
    falling = torch.cat([token.repeat(40 - rank) for rank, token in enumerate(order)])
    assert float(bias_frequency_correlation(model, falling)) == pytest.approx(-1)


def test_too_little_text_is_not_measured(model: Any) -> None:
    with pytest.raises(NotMeasured, match="2 different tokens with 2 different counts"):
        bias_frequency_correlation(model, torch.tensor([1, 2, 2]))
    with pytest.raises(NotMeasured, match="20 different tokens with 1 different counts"):
        bias_frequency_correlation(model, torch.arange(20))


@pytest.mark.parametrize("name", ["planted", "Llama"])
def test_a_model_without_a_bias_says_so(name: str, clean: Prompts) -> None:
    bare = Bench(name).model if name == "planted" else architectures.bridge(name)
    for kernel in (bias_extremes, lambda model: bias_of(model, torch.tensor([1]))):
        with pytest.raises(NotApplicable, match="the unembedding has no bias"):
            kernel(bare)
    if name == "Llama":
        assert not bool(bias_between(bare, clean).any())


def test_that_of_the_trained_default_follows_the_counts_of_its_corpus() -> None:
    from claimlens.fixtures.default.corpus import LATE, rows

    texts = torch.tensor(rows(Random(0), LATE, count=200, length=48)[0]).flatten()
    model = Bench("default").model
    assert float(bias_frequency_correlation(model, texts)) > 0.6
    order = torch.randperm(len(set(texts.tolist())), generator=torch.Generator().manual_seed(0))
    mixed = order[texts]  # the same counts, of other tokens
    assert abs(float(bias_frequency_correlation(model, mixed))) < 0.3
