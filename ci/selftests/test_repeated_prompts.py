"""How many random tokens are repeated, and on whose induction heads that is published."""

from __future__ import annotations

import pytest
import torch

from claimlens.ci.selftests import micro
from claimlens.circuits.findings import circuit_of, finding
from claimlens.circuits.kernels.induction import half_of
from claimlens.circuits.parts import Head
from claimlens.circuits.verdict import NotApplicable
from claimlens.fixtures.bench import Bench
from claimlens.fixtures.prompts.repeated import repeated_prompts
from claimlens.fixtures.tokens import Vocabulary

CPU = torch.device("cpu")
WORDS = Vocabulary(micro.tokenizer())


@pytest.mark.parametrize("bos", [True, False])
def test_half_is_how_many_tokens_come_twice(bos: bool) -> None:
    found = repeated_prompts(WORDS, 3, 0, CPU, 128, bos=bos, half=50)  # as in the demo
    assert half_of(found.clean) == 50
    assert found.clean.tokens.shape == (3, 100 + bos)
    assert torch.equal(found.clean.tokens[:, bos : 50 + bos], found.clean.tokens[:, 50 + bos :])
    assert found.grow is not None
    assert half_of(found.grow(5).clean) == 50
    assert found.digest != repeated_prompts(WORDS, 3, 0, CPU, 128, bos=bos).digest


def test_a_bench_repeats_as_many_as_it_is_asked_for() -> None:
    bench = Bench("default")
    assert half_of(bench.repeated_tokens(2, half=7).clean) == 7
    assert half_of(bench.repeated_tokens(2).clean) == 20


@pytest.mark.parametrize(
    ("half", "context", "told"),
    [
        (24, 48, "room for 47 tokens is too short for 24 tokens"),
        (400, 1024, "400 distinct tokens of a vocabulary of 355"),
        (None, 8, "room for 7 tokens is too short for 4 tokens"),
    ],
)
def test_a_half_that_does_not_fit_is_not_applicable(
    half: int | None, context: int, told: str
) -> None:
    with pytest.raises(NotApplicable, match=told):
        repeated_prompts(WORDS, 2, 0, CPU, context, half=half)


def test_a_half_of_hardly_anything_is_refused() -> None:
    with pytest.raises(ValueError, match="half=3: expected at least 4"):
        repeated_prompts(WORDS, 2, 0, CPU, 48, half=3)


@pytest.mark.parametrize("name", ["distilgpt2", "distilbert/distilgpt2"])
def test_the_induction_heads_published_for_distilgpt2(name: str) -> None:
    circuit = circuit_of(name)
    assert circuit is not None
    published = finding("demo/induction-heads-distilgpt2").value
    assert circuit.roles == {"induction/induction_head": tuple(map(Head.parse, published))}


def test_whose_circuit_is_not_published() -> None:
    assert circuit_of("somebody/distilgpt2") is None
    assert circuit_of("openai-community/gpt2") is circuit_of("gpt2")
