"""Heads, positions and prompt sets: what is printed can be read, what is wrong says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from claimlens.ci.selftests import micro
from claimlens.circuits.parts import Head, Position, PromptPairs, Prompts
from claimlens.circuits.verdict import NotMeasured
from claimlens.fixtures.prompts.ioi import ioi_prompts
from claimlens.fixtures.prompts.repeated import repeated_prompts
from claimlens.fixtures.tokens import Vocabulary

CPU = torch.device("cpu")
COUNT = st.integers(0, 200)
LABEL = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(micro.tokenizer())


@pytest.fixture(scope="module")
def ioi(vocabulary: Vocabulary) -> PromptPairs:
    return ioi_prompts(vocabulary, 24, 0, CPU)


# --- heads and positions -------------------------------------------------------------------------


@given(COUNT, COUNT)
def test_a_head_reads_back_from_how_it_is_printed_and_from_the_short_form(
    layer: int, index: int
) -> None:
    head = Head(layer, index)
    assert Head.parse(str(head)) == head
    assert Head.parse(f"{layer}.{index}") == head


def test_heads_print_as_the_field_writes_them_and_sort_by_layer() -> None:
    assert str(Head(10, 7)) == "L10H7"
    assert sorted([Head(10, 0), Head(9, 9), Head(9, 6)]) == [Head(9, 6), Head(9, 9), Head(10, 0)]


@pytest.mark.parametrize("text", ["", "9", "9.9.9", "L9", "-1.2", " 9.9", "9,9", "9.9\n", "H9L9"])
def test_what_is_no_head_is_named_with_the_expected_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a head: .*expected layer and index as '9\.9'"):
        Head.parse(text)


@given(LABEL, st.integers(-20, 20))
def test_a_position_reads_back_from_how_it_is_printed(label: str, offset: int) -> None:
    position = Position(label, offset)
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize("text", ["", "1S", "S1+", "S1 + 1", "+1", "S1+1+1", "S1-x", "S1\n"])
def test_what_is_no_position_is_named_with_the_expected_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a position: .*as 'S1\+1'"):
        Position.parse(text)


# --- labelled positions --------------------------------------------------------------------------


def test_labels_point_at_their_words(ioi: PromptPairs, vocabulary: Vocabulary) -> None:
    words = ioi.clean.tokens
    rows = torch.arange(len(ioi))
    io, s1, s2 = (words[rows, ioi.clean.at(name)[:, 0]] for name in ("IO", "S1", "S2"))
    assert torch.equal(io, ioi.clean.answer)  # type: ignore[arg-type]  # IOI prompts have answers
    assert torch.equal(s1, ioi.clean.wrong_answer)  # type: ignore[arg-type]  # as above
    assert torch.equal(s1, s2)
    assert bool((words[:, 0] == vocabulary.bos).all())
    assert torch.equal(ioi.clean.at("END")[:, 0], ioi.clean.lengths - 1)


def test_an_offset_moves_the_position(ioi: PromptPairs) -> None:
    assert torch.equal(ioi.clean.at("S1+1"), ioi.clean.at("S1") + 1)
    assert torch.equal(ioi.clean.at(Position("END", -2)), ioi.clean.at("END") - 2)


@pytest.mark.parametrize("outside", ["END+1", "BOS-1", "S2+40"])
def test_a_position_outside_a_prompt_is_an_error_also_where_there_is_padding(
    ioi: PromptPairs, outside: str
) -> None:
    assert int(ioi.clean.lengths.min()) < ioi.clean.tokens.shape[1]
    with pytest.raises(NotMeasured, match="lies outside some prompt"):
        ioi.clean.at(outside)


def test_an_unknown_label_lists_the_known_ones(ioi: PromptPairs) -> None:
    with pytest.raises(NotMeasured, match=r"no position 'S3'.*BOS, END, IO, S1, S2"):
        ioi.clean.at("S3")


# --- select and grow -----------------------------------------------------------------------------


def test_select_takes_rows_of_everything(ioi: PromptPairs) -> None:
    rows = [5, 2, 11]
    some = ioi.select(rows)
    assert some.ids == tuple(ioi.ids[i] for i in rows)
    assert some.texts == tuple(ioi.texts[i] for i in rows)
    assert some.templates == tuple(ioi.templates[i] for i in rows)
    assert ioi.corrupted is not None
    assert some.corrupted is not None
    for mine, whole in ((some.clean, ioi.clean), (some.corrupted, ioi.corrupted)):
        assert torch.equal(mine.tokens, whole.tokens[rows])
        assert torch.equal(mine.lengths, whole.lengths[rows])
        assert torch.equal(mine.at("S2"), whole.at("S2")[rows])
        assert torch.equal(mine.answer, whole.answer[rows])  # type: ignore[arg-type,index]  # IOI has answers
    assert some.grow is None


@pytest.mark.parametrize("seed", [0, 7])
def test_a_grown_set_begins_with_the_smaller_one(vocabulary: Vocabulary, seed: int) -> None:
    small = ioi_prompts(vocabulary, 10, seed, CPU)
    assert small.grow is not None
    large = small.grow(35)
    assert len(large) == 35
    assert large.ids[:10] == small.ids
    assert large.texts[:10] == small.texts
    width = small.clean.tokens.shape[1]
    assert torch.equal(large.clean.tokens[:10, :width], small.clean.tokens)
    assert torch.equal(large.clean.at("IO")[:10], small.clean.at("IO"))


def test_another_seed_draws_other_prompts_under_other_ids(vocabulary: Vocabulary) -> None:
    first, second = (ioi_prompts(vocabulary, 10, seed, CPU) for seed in (0, 1))
    assert not set(first.ids) & set(second.ids)
    assert first.texts != second.texts


def test_prompt_ids_are_unique_and_every_part_has_the_same_number_of_rows(
    ioi: PromptPairs,
) -> None:
    with pytest.raises(ValueError, match="ids must be unique"):
        replace(ioi, ids=("x",) * len(ioi))
    with pytest.raises(ValueError, match="differ in number"):
        replace(ioi, texts=ioi.texts[1:])
    with pytest.raises(ValueError, match="differ in number"):
        replace(ioi, corrupted=ioi.select([0]).corrupted)


# --- the digest ----------------------------------------------------------------------------------


def test_equal_prompts_have_equal_digests(vocabulary: Vocabulary, ioi: PromptPairs) -> None:
    assert ioi_prompts(vocabulary, 24, 0, CPU).digest == ioi.digest


def changes_of(pairs: PromptPairs) -> dict[str, PromptPairs]:
    """The same prompts with one thing changed that a kernel can read."""
    clean, corrupted = pairs.clean, pairs.corrupted
    assert clean.answer is not None
    assert corrupted is not None
    tokens = clean.tokens.clone()
    tokens[3, 2] += 1
    places = {**clean.positions, "S2": clean.positions["S2"] - 1}
    return {
        "a token": replace(pairs, clean=replace(clean, tokens=tokens)),
        "a corrupted token": replace(pairs, corrupted=replace(corrupted, tokens=tokens)),
        "a length": replace(pairs, clean=replace(clean, lengths=clean.lengths - 1)),
        "a label": replace(pairs, clean=replace(clean, positions=places)),
        "the answers": replace(pairs, clean=replace(clean, answer=clean.answer.roll(1))),
        "no wrong answer": replace(pairs, clean=replace(clean, wrong_answer=None)),
        "an id": replace(pairs, ids=("other", *pairs.ids[1:])),
        "the name": replace(pairs, name="other"),
        "bos": replace(pairs, bos=False),
        "no corrupted side": replace(pairs, corrupted=None),
        "a row less": pairs.select(range(len(pairs) - 1)),
        "shuffled labels": pairs.shuffled(0),
    }


def test_the_digest_changes_with_anything_a_kernel_can_read(ioi: PromptPairs) -> None:
    digests = {what: changed.digest for what, changed in changes_of(ioi).items()}
    assert ioi.digest not in digests.values(), [w for w, d in digests.items() if d == ioi.digest]
    assert len(set(digests.values())) == len(digests)


def test_the_digest_tells_which_label_a_position_has(ioi: PromptPairs) -> None:
    """The new name sorts where the old one did: the positions' bytes are the same."""
    places = dict(ioi.clean.positions)
    renamed = {("S1x" if name == "S1" else name): index for name, index in places.items()}
    assert replace(ioi, clean=replace(ioi.clean, positions=renamed)).digest != ioi.digest


def test_the_digest_tells_templates(ioi: PromptPairs) -> None:
    """Templates decide the interval: the same prompts in other clusters are another set."""
    alone = replace(ioi, clean=replace(ioi.clean, templates=ioi.ids))
    assert alone.digest != ioi.digest


# --- the shuffled control ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_prompts_keep_the_text_and_misplace_every_label(
    ioi: PromptPairs, seed: int
) -> None:
    mixed = ioi.shuffled(seed)
    assert torch.equal(mixed.clean.tokens, ioi.clean.tokens)
    assert torch.equal(mixed.clean.at("END"), ioi.clean.at("END"))
    assert torch.equal(mixed.clean.at("BOS"), ioi.clean.at("BOS"))
    for label in ("IO", "S1", "S2", "S1+1", "S2-1"):
        moved = mixed.clean.at(label)
        assert bool((moved != ioi.clean.at(label)).all()), label
        assert bool(((moved >= 1) & (moved < ioi.clean.lengths[:, None])).all()), label


def test_shuffled_prompts_take_the_answers_of_others(ioi: PromptPairs) -> None:
    mixed = ioi.shuffled(0).clean
    pairs = list(zip(_ids(ioi.clean.answer), _ids(ioi.clean.wrong_answer), strict=True))
    taken = list(zip(_ids(mixed.answer), _ids(mixed.wrong_answer), strict=True))
    assert sorted(taken) == sorted(pairs)
    assert all(mine != other for mine, other in zip(pairs, taken, strict=True))


def test_different_labels_go_to_different_places(vocabulary: Vocabulary) -> None:
    """A cycle keeps positions apart: slots of one label stay as many places as before."""
    prompts = repeated_prompts(vocabulary, 6, 0, CPU, micro.CONTEXT).shuffled(0).clean
    for row in prompts.at("REPEAT"):
        assert len(set(row.tolist())) == len(row)


def test_shuffling_is_the_same_for_the_same_seed_and_grows_with_the_set(ioi: PromptPairs) -> None:
    mixed = ioi.shuffled(3)
    assert mixed.digest == ioi.shuffled(3).digest
    assert mixed.digest != ioi.shuffled(4).digest
    assert mixed.grow is not None
    assert len(mixed.grow(30)) == 30
    assert mixed.grow(30).clean.moved is not None
    assert mixed.name == "ioi:shuffled"


def _ids(answers: object) -> list[int]:
    assert isinstance(answers, torch.Tensor)
    return [int(token) for token in answers]


def test_prompts_move_to_a_device_with_all_their_parts(ioi: PromptPairs) -> None:
    moved: Prompts = ioi.shuffled(0).clean.to(torch.device("meta"))
    parts = (moved.tokens, moved.lengths, moved.answer, moved.wrong_answer, moved.moved)
    assert {part.device.type for part in parts if part is not None} == {"meta"}
    assert {index.device.type for index in moved.positions.values()} == {"meta"}
