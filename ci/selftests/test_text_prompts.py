"""Running text: drawn for each vocabulary, or read from a file that is checked first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from claimlens.ci.selftests import micro
from claimlens.circuits.verdict import NotApplicable, NotMeasured
from claimlens.fixtures.default.words import NAMES
from claimlens.fixtures.planted_weights import tokenizer as planted_tokenizer
from claimlens.fixtures.prompts.text import (
    FEWEST_DOCUMENTS,
    GROWTH,
    LENGTH,
    PROBES,
    SENTENCES,
    SHORTEST,
    BadText,
    TextFile,
    read_text,
    text_prompts,
)
from claimlens.fixtures.tokens import Vocabulary

CPU = torch.device("cpu")
DEFAULT, PLANTED = Vocabulary(micro.tokenizer()), Vocabulary(planted_tokenizer())
DOCUMENT = "Mary met John near the park. John gave a book to Mary. Mary had lunch at the store."
VOCABULARIES = {"default": DEFAULT, "planted": PLANTED}


def file_of(count: int, document: str = DOCUMENT) -> TextFile:
    return TextFile("mine.txt", (document,) * count)


# --- drawn ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize("context", [20, 32, 48, 1024])
def test_every_prompt_fills_its_length_with_words_that_the_model_knows(
    name: str, context: int
) -> None:
    found = text_prompts(VOCABULARIES[name], 12, 0, CPU, context)
    assert found.clean.tokens.shape == (12, min(LENGTH, context))
    assert set(found.clean.lengths.tolist()) == {min(LENGTH, context)}
    assert set(found.clean.tokens[:, 0].tolist()) == {VOCABULARIES[name].bos}
    assert VOCABULARIES[name].bos not in found.clean.tokens[:, 1:].tolist()
    assert found.corrupted is None
    assert found.clean.answer is None


def test_every_prompt_is_a_template_of_its_own_and_none_comes_twice() -> None:
    found = text_prompts(DEFAULT, 64, 0, CPU, 48)
    assert len(set(found.templates)) == 64
    assert len(set(found.texts)) == 64


def test_names_come_again() -> None:
    """What a copy suppressor lives on."""
    found = text_prompts(DEFAULT, 32, 0, CPU, 48)
    names = set(DEFAULT.single(NAMES).values())
    for row in found.clean.tokens.tolist():
        used = [token for token in row if token in names]
        assert len(used) > len(set(used))


def test_a_larger_set_begins_with_the_smaller_one() -> None:
    small, large = (text_prompts(DEFAULT, n, 3, CPU, 48) for n in (6, 24))
    assert large.ids[:6] == small.ids
    assert torch.equal(large.clean.tokens[:6], small.clean.tokens)
    assert torch.equal(large.clean.positions["PROBE"][:6], small.clean.positions["PROBE"])
    assert small.grow is not None
    assert small.grow(24).digest == large.digest
    assert text_prompts(DEFAULT, 6, 4, CPU, 48).digest != small.digest


def test_probes_are_tokens_that_something_predicts() -> None:
    probes = text_prompts(DEFAULT, 40, 0, CPU, 32).clean.positions["PROBE"]
    assert probes.shape == (40, PROBES)
    assert int(probes.min()) >= 2
    assert int(probes.max()) <= 31
    assert all(len(set(row)) == PROBES for row in probes.tolist())


def test_the_planted_vocabulary_has_words_for_some_of_the_sentences() -> None:
    text = " ".join(text_prompts(PLANTED, 40, 0, CPU, 32).texts)
    assert "had lunch at the" in text
    assert "decided to give" in text
    assert "visited" not in text


def test_the_default_vocabulary_has_words_for_all() -> None:
    text = " ".join(text_prompts(DEFAULT, 200, 0, CPU, 48).texts)
    for sentence in SENTENCES:
        words = [w for w in sentence.rstrip(".").split() if "{" not in w]
        assert all(word in text for word in words), sentence


def test_without_names_it_is_not_applicable() -> None:
    bare = Vocabulary(micro.tokenizer(["<|endoftext|>", "Mary", "the", "gave", "."]))
    with pytest.raises(NotApplicable, match="needs at least 6 names and two sentences"):
        text_prompts(bare, 4, 0, CPU, 48)


def test_a_short_context_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="a context of 12 tokens is too short"):
        text_prompts(DEFAULT, 4, 0, CPU, 12)


# --- from a file ----------------------------------------------------------------------------------


def test_documents_are_separated_by_blank_lines(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("\n\n" + "\n \n\n".join(f"one\ntwo {i}" for i in range(25)) + "\n\n")
    found = read_text(file)
    assert found.name == "mine.txt"
    assert len(found.documents) == 25
    assert found.documents[3] == "one\ntwo 3"


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda f: None, "cannot be read (No such file or directory); give a text file"),
    "folder": (lambda f: f.mkdir(), "cannot be read (Is a directory)"),
    "empty": (lambda f: f.write_text(" \n\n \n"), "is empty; put documents into it"),
    "latin-1": (lambda f: f.write_bytes(b"caf\xe9\n\n" * 30), "is not UTF-8 text (byte 3)"),
    "few": (
        lambda f: f.write_text("a\n\n" * (FEWEST_DOCUMENTS - 1)),
        f"has {FEWEST_DOCUMENTS - 1} documents; at least {FEWEST_DOCUMENTS} are needed",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_before_anything_runs(name: str, tmp_path: Path) -> None:
    spoil, told = BAD[name]
    file = tmp_path / "mine.txt"
    spoil(file)
    with pytest.raises(BadText) as refused:
        read_text(file)
    assert told in str(refused.value)


def test_the_first_documents_are_taken_and_more_on_demand() -> None:
    n = 5
    file = TextFile("mine.txt", tuple(f"{DOCUMENT} {DOCUMENT}" for _ in range(GROWTH * n)))
    found = text_prompts(DEFAULT, n, 0, CPU, 48, file)
    assert (found.name, len(found)) == ("text:mine.txt", n)
    assert found.grow is not None
    assert len(found.grow(GROWTH * n)) == GROWTH * n
    assert found.grow(2 * n).ids[:n] == found.ids


def test_a_file_that_cannot_grow_is_taken_whole() -> None:
    found = text_prompts(DEFAULT, 20, 0, CPU, 48, file_of(30))
    assert len(found) == 30
    assert found.grow is None


def test_the_words_of_a_file_enter_the_digest() -> None:
    one, other = DOCUMENT, DOCUMENT.replace("book", "ring")
    digests = {text_prompts(DEFAULT, 20, 0, CPU, 48, file_of(20, d)).digest for d in (one, other)}
    assert len(digests) == 2


def test_a_document_is_cut_to_the_context() -> None:
    found = text_prompts(DEFAULT, 20, 0, CPU, 17, file_of(20))
    assert found.clean.tokens.shape == (20, 17)


def test_a_document_that_is_too_short_is_named() -> None:
    with pytest.raises(
        NotMeasured, match=f"document 1 of mine.txt has 3 tokens; expected at least {SHORTEST - 1}"
    ):
        text_prompts(DEFAULT, 20, 0, CPU, 48, file_of(20, "the dog ."))


def test_a_special_token_in_a_document_is_refused() -> None:
    with pytest.raises(NotMeasured, match=r"document 1 of mine\.txt holds the special token"):
        text_prompts(PLANTED, 20, 0, CPU, 32, file_of(20, f"{DOCUMENT} <|endoftext|> to"))


def test_a_word_that_the_model_cannot_read_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match=r"document 1 of mine\.txt has words .* as 'zyzzyva'"):
        text_prompts(DEFAULT, 20, 0, CPU, 48, file_of(20, f"{DOCUMENT} zyzzyva"))


# --- the option -----------------------------------------------------------------------------------

CLAIM = '''
import pytest

from claimlens.circuits import loss


@pytest.mark.claim("text/loss", kind="behaviour", source="here")
def test_loss(model, text, measure):
    """A claim made for a test."""
    assert measure(lambda p: loss(model, p.clean), on=text, unit="nats/token") >= 99
'''


def suite(tmp_path: Path) -> Path:
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "test_x.py").write_text(CLAIM)
    return folder


@pytest.mark.parametrize("name", ["missing", "few"])
def test_a_bad_file_is_a_usage_error(name: str, tmp_path: Path) -> None:
    spoil, told = BAD[name]
    file = tmp_path / "mine.txt"
    spoil(file)
    folder = suite(tmp_path)
    refused = micro.run_pytest(folder, f"--claims-text={file}", store=folder / "never")
    assert refused.code == pytest.ExitCode.USAGE_ERROR, refused.output
    assert "--claims-text: " in refused.output
    assert told in refused.output
    assert "Traceback" not in refused.output


def test_claims_are_measured_on_the_given_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("\n\n".join([f"{DOCUMENT} {DOCUMENT}"] * 30))
    run = micro.run_pytest(suite(tmp_path), f"--claims-text={file}")
    (record,) = run.of("text/loss")
    assert record.verdict == "refuted", run.output
    (described,) = record.prompts
    assert (described["name"], described["n"]) == ("text:mine.txt", 30)


def test_without_one_sentences_are_drawn(tmp_path: Path) -> None:
    run = micro.run_pytest(suite(tmp_path), "--claims-model=planted")
    (record,) = run.of("text/loss")
    (described,) = record.prompts
    assert described["name"] == "text", run.output
