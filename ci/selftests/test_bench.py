"""Bench gives outside a test run what the fixtures give inside, and prompts of names are names."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from claimlens.ci.selftests import micro
from claimlens.circuits.engine.policy import MAX_BYTES, policy
from claimlens.circuits.kernels.attention import attention
from claimlens.circuits.verdict import NotApplicable, NotMeasured
from claimlens.fixtures.bench import Bench
from claimlens.fixtures.directories import ModelUnavailable
from claimlens.fixtures.plugin import PROMPTS
from claimlens.fixtures.prompts.names import name_prompts
from claimlens.fixtures.sweep_bar import SweepBar
from claimlens.fixtures.tokens import Vocabulary


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench("planted")


def test_a_planted_mover_looks_at_the_object(bench: Bench) -> None:
    (mover, *_) = bench.roles["ioi/name_mover"]
    to_io = attention(bench.model, bench.ioi(8).clean, mover, "END", "IO")
    assert to_io.shape == (8,)
    assert to_io.min() > 0.5


def test_the_same_seed_draws_the_same_prompts(bench: Bench) -> None:
    assert bench.ioi(8).digest == Bench("planted").ioi(8).digest
    assert bench.ioi(8).digest != Bench("planted", seed=1).ioi(8).digest


@pytest.mark.parametrize("name", ["planted", "default"])
def test_means_are_taken_over_many_prompts_of_every_template(name: str) -> None:
    """Over one or two a template mean would be nearly a resample."""
    some = Bench(name)
    counts = Counter(some.abc().templates)
    assert counts.keys() == set(some.ioi(PROMPTS["ioi"]).templates)
    assert min(counts.values()) >= 8


def test_what_a_model_lacks_is_not_applicable(bench: Bench) -> None:
    with pytest.raises(NotApplicable, match="has no SAE"):
        _ = bench.sae
    with pytest.raises(NotApplicable, match="lacks quotation marks"):
        bench.quotes(4)


def test_a_block_says_how_sweeps_are_measured(bench: Bench) -> None:
    with bench.measuring("hooks", "2GB", progress=False) as chosen:
        assert policy() is chosen
        assert (chosen.mode, chosen.max_bytes, chosen.progress) == ("hooks", 2 * 10**9, None)
    with bench.measuring() as chosen:
        assert (chosen.mode, chosen.max_bytes) == ("auto", MAX_BYTES)
        assert isinstance(chosen.progress, SweepBar)
    assert policy() is not chosen


def test_a_model_that_is_not_there_says_so() -> None:
    with pytest.raises(ModelUnavailable):
        Bench("./no-such-directory")


def test_a_name_is_its_own_answer_and_another_is_the_wrong_one() -> None:
    names = name_prompts(Vocabulary(micro.tokenizer()), torch.device("cpu"))
    assert len(set(names.texts)) == len(names) > 50
    clean = names.clean
    assert clean.answer is not None
    assert clean.wrong_answer is not None
    assert torch.equal(clean.tokens[:, 1], clean.answer)
    assert torch.equal(clean.at("END")[:, 0], torch.ones(len(names), dtype=torch.long))
    assert not bool((clean.answer == clean.wrong_answer).any())


def test_shuffled_names_have_the_answers_of_others() -> None:
    names = name_prompts(Vocabulary(micro.tokenizer()), torch.device("cpu")).shuffled(3).clean
    assert names.answer is not None
    assert not bool((names.tokens[:, 1] == names.answer).any())


def test_a_vocabulary_of_few_names_is_not_applicable() -> None:
    few = ["<|endoftext|>", "a", "Mary", "John"]
    with pytest.raises(NotApplicable, match="knows 2 of 100 names"):
        name_prompts(Vocabulary(micro.tokenizer(few)), torch.device("cpu"))


def test_a_number_of_the_model_needs_no_prompts_and_is_one_number() -> None:
    from claimlens.circuits.verdict import Ledger, Refuted
    from claimlens.fixtures.measure import Measure

    measure = Measure(Ledger())
    assert measure(lambda: 0.9, unit="fraction") >= 0.8
    with pytest.raises(Refuted):
        assert measure(torch.tensor(0.7), unit="fraction") >= 0.8
    with pytest.raises(NotMeasured, match="without on=…, measure takes one number"):
        measure(torch.ones(3), unit="fraction")
    with pytest.raises(NotMeasured, match="not finite"):
        measure(float("nan"), unit="fraction")
