"""Words to tokens and back: positions, round trips, padding, BOS, prompts cut by a pattern."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from claimlens.ci.selftests import micro
from claimlens.circuits.kernels.cache import Edit, edited
from claimlens.circuits.kernels.padding import padding_gap
from claimlens.circuits.metrics import end_logits
from claimlens.circuits.parts import PromptPairs
from claimlens.circuits.verdict import NotApplicable, NotMeasured
from claimlens.fixtures.bench import Bench
from claimlens.fixtures.prompts.ioi import ioi_prompts
from claimlens.fixtures.prompts.pattern import pattern_prompts
from claimlens.fixtures.tokens import Vocabulary

CPU = torch.device("cpu")
WORDS = Vocabulary(micro.tokenizer())
SPEECH = [
    'Mary said " the cat is red " and Tom said " the dog is red "',
    "Mary was in the park",
    'Tom said " the dog is red',
    'Anna said " the zyzzyva "',
]


@pytest.fixture(scope="module")
def ioi() -> PromptPairs:
    return ioi_prompts(WORDS, 12, 0, CPU)


# --- words and places -----------------------------------------------------------------------------


def test_a_word_is_found_where_it_stands_first_or_last() -> None:
    ids = WORDS.encode("Mary and Tom and Mary")
    assert WORDS.position_of(ids, "Mary") == 0
    assert WORDS.position_of(ids, "Mary", "last") == 4


@pytest.mark.parametrize(
    ("word", "told"), [("Anna", "is not in these tokens"), ("the dog", "is not a single token")]
)
def test_a_word_that_is_not_there_is_said(word: str, told: str) -> None:
    with pytest.raises(NotMeasured, match=told):
        WORDS.position_of(WORDS.encode("Mary and Tom"), word)


def test_the_labels_stand_where_the_names_do(ioi: PromptPairs) -> None:
    answers = ioi.clean.answer
    assert answers is not None
    for row, answer in zip(range(len(ioi)), answers.tolist(), strict=True):
        ids = ioi.clean.tokens[row].tolist()
        assert WORDS.position_of(ids, WORDS.tokenizer.decode([answer])) == ioi.clean.at("IO")[row]


def test_ids_of_words_are_of_all_of_them_or_none() -> None:
    assert WORDS.ids(["Mary", "Tom", "Mary"]) == WORDS.encode("Mary Tom Mary")
    with pytest.raises(NotApplicable, match="the dog, zyzzyva: no single token"):
        WORDS.ids(["Mary", "the dog", "zyzzyva"])


# --- round trip -----------------------------------------------------------------------------------


def test_tokens_of_words_come_back(ioi: PromptPairs) -> None:
    assert WORDS.round_trips(ioi.clean).tolist() == [True] * len(ioi)
    assert WORDS.round_trips(ioi.without_bos().clean).tolist() == [True] * len(ioi)


def test_tokens_that_no_text_has_do_not_come_back(ioi: PromptPairs) -> None:
    """An end-of-text in the middle is read as punctuation and words."""
    tokens = ioi.clean.tokens.clone()
    tokens[3, 4] = WORDS.bos
    back = WORDS.round_trips(replace(ioi.clean, tokens=tokens)).tolist()
    assert back.index(False) == 3
    assert back.count(False) == 1


# --- padding and BOS ------------------------------------------------------------------------------


def test_padding_changes_nothing(ioi: PromptPairs) -> None:
    assert len(set(ioi.clean.lengths.tolist())) > 1
    assert float(padding_gap(micro.bridge(), ioi.clean).max()) < 1e-12


def test_a_model_that_sees_its_padding_is_found(ioi: PromptPairs) -> None:
    peek = Edit("blocks.1.hook_resid_pre", lambda x: x + x.mean(1, keepdim=True), "look ahead")
    gap = padding_gap(edited(micro.bridge(), peek), ioi.clean)
    padded = ioi.clean.lengths < ioi.clean.tokens.shape[1]
    assert float(gap[padded].min()) > 1e-3
    assert float(gap[~padded].max()) < 1e-12


def test_without_bos_every_token_stands_one_place_further_left(ioi: PromptPairs) -> None:
    bare = ioi.without_bos()
    assert (bare.bos, len(bare)) == (False, len(ioi))
    assert torch.equal(bare.clean.tokens, ioi.clean.tokens[:, 1:])
    for label in ("IO", "S1", "S2", "END"):
        assert torch.equal(bare.clean.at(label), ioi.clean.at(label) - 1)
    with pytest.raises(NotMeasured, match="no position 'BOS'"):
        bare.clean.at("BOS")
    with pytest.raises(NotMeasured, match="have no BOS to leave out"):
        bare.without_bos()
    assert bare.digest != ioi.digest


def test_without_bos_the_model_reads_other_positions(ioi: PromptPairs) -> None:
    model: Any = micro.bridge()
    given, bare = end_logits(model, ioi.clean), end_logits(model, ioi.without_bos().clean)
    assert float((given - bare).abs().max()) > 1e-2


def test_without_bos_also_what_is_shuffled_and_grown(ioi: PromptPairs) -> None:
    bare = ioi.shuffled(1).without_bos().clean
    places = {label: bare.at(label) for label in ("IO", "S1", "S2")}
    assert torch.equal(places["IO"], ioi.shuffled(1).clean.at("IO") - 1)
    grow = ioi.without_bos().grow
    assert grow is not None
    assert len(grow(20)) == 20


# --- prompts cut by a pattern ---------------------------------------------------------------------


def test_a_document_is_cut_before_the_first_answer_after_the_pattern() -> None:
    found = pattern_prompts(WORDS, SPEECH, 'said "', '"', CPU, 48)
    assert found.ids == ("document-0",)
    assert found.texts == ('Mary said " the cat is red ',)
    (row,) = WORDS.words(found.clean)
    assert row[1:] == ["Mary", "said", '"', "the", "cat", "is", "red"]
    assert found.clean.answer is not None
    assert WORDS.tokenizer.decode(found.clean.answer.tolist()) == '"'
    assert found.clean.at("OPEN").tolist() == [[3]]
    assert found.clean.at("END").tolist() == [[7]]


@pytest.mark.parametrize(
    ("opening", "closing", "context"),
    [
        ("asked", '"', 48),  # no document opens so
        ('said "', "is red", 48),  # an answer of two tokens
        ('said "', '"', 6),  # longer than the model can read
    ],
)
def test_where_no_document_is_left_it_is_not_applicable(
    opening: str, closing: str, context: int
) -> None:
    with pytest.raises(NotApplicable, match="none of 4 documents has"):
        pattern_prompts(WORDS, SPEECH, opening, closing, CPU, context)


def merging_words() -> Vocabulary:
    """A tokenizer of letters that reads a quotation mark and an a behind it as one token."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    pieces = ["<|endoftext|>", "a", "b", "x", '"', '"a']
    merged = models.BPE({piece: i for i, piece in enumerate(pieces)}, [('"', "a")])
    fast: Any = PreTrainedTokenizerFast
    return Vocabulary(fast(tokenizer_object=Tokenizer(merged), eos_token="<|endoftext|>"))


def test_a_document_whose_opening_is_merged_with_the_next_letter_is_dropped() -> None:
    words = merging_words()
    assert words.tokenizer.convert_ids_to_tokens(words.encode('xx"ab"')) == [
        *("x", "x", '"a', "b", '"'),
    ]
    found = pattern_prompts(words, ['xx"ab"', 'xx"ba"'], 'xx"', '"', CPU, 48)
    assert found.ids == ("document-1",)
    assert found.clean.at("OPEN").tolist() == [[3]]
    assert words.words(found.clean)[0][3] == '"'


def test_a_bench_cuts_by_a_pattern_too() -> None:
    found = Bench("default").pattern(SPEECH, 'said "', '"')
    assert found.ids == ("document-0",)
    assert found.clean.at("OPEN").tolist() == [[3]]
