"""The likeliest tokens, an answer's standing and the loss by position, against the twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import ROUNDING, agree, rows, traces
from claimlens.ci.selftests.twin import Twin
from claimlens.circuits.kernels.next_tokens import standing, top_tokens
from claimlens.circuits.metrics import answer_tokens, loss, loss_by_position
from claimlens.circuits.parts import PromptPairs, Prompts
from claimlens.circuits.verdict import NotApplicable
from claimlens.fixtures.prompts.sentences import sentence_prompts
from claimlens.fixtures.tokens import Vocabulary

CPU = torch.device("cpu")


def last_logits(twin: Twin, prompts: Prompts) -> list[Tensor]:
    return [trace.logits[-1] for trace in traces(twin, prompts)]


def test_the_likeliest_tokens(model: Any, twin: Twin, clean: Prompts) -> None:
    found = top_tokens(model, clean, 5)
    for row, logits in enumerate(last_logits(twin, clean)):
        order = sorted(range(len(logits)), key=lambda token: -float(logits[token]))[:5]
        assert found.ids[row].tolist() == order
        agree(found.logits[row], logits[order] - logits.mean())
        agree(found.probabilities[row], logits.softmax(0)[order])


def test_the_standing_of_the_answer(model: Any, twin: Twin, clean: Prompts) -> None:
    found, (answers, _) = standing(model, clean), answer_tokens(clean)
    for row, (logits, answer) in enumerate(zip(last_logits(twin, clean), answers, strict=True)):
        assert int(found.rank[row]) == sum(float(x) > float(logits[answer]) for x in logits)
        agree(found.logit[row], logits[answer] - logits.mean())
        agree(found.probability[row], logits.softmax(0)[answer])
    assert len(set(found.rank.tolist())) > 1


def test_the_ends_of_the_ranking(model: Any, clean: Prompts) -> None:
    """The likeliest token has rank 0, the least likely the last; all probabilities sum to 1."""
    size = int(model.cfg.d_vocab)
    everything = top_tokens(model, clean, size)
    first, last = everything.ids[:, 0], everything.ids[:, -1]
    assert standing(model, clean, first).rank.tolist() == [0] * len(clean)
    assert standing(model, clean, last).rank.tolist() == [size - 1] * len(clean)
    agree(everything.probabilities.sum(1), torch.ones(len(clean), dtype=torch.float64), ROUNDING)
    agree(everything.logits.sum(1), torch.zeros(len(clean), dtype=torch.float64), 1e-10)


def test_the_prompt_test_of_transformer_lens_tells_the_same(
    model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformer_lens.utilities.exploratory_utils import test_prompt

    text = "When Mary and John went to the store , John gave a book to"
    pairs = sentence_prompts(Vocabulary(micro.tokenizer()), text, CPU, "Mary")
    test_prompt(text, "Mary", model, prepend_space_to_answer=True, top_k=3)
    told = capsys.readouterr().out
    found = standing(model, pairs.clean)
    assert f"Rank: {int(found.rank)} " in told
    assert f"Prob: {float(found.probability):>6.2%}" in told
    best = top_tokens(model, pairs.clean, 3)
    for place, probability in enumerate(best.probabilities[0].tolist()):
        (line,) = [x for x in told.splitlines() if x.startswith(f"Top {place}th token.")]
        assert f"Prob: {probability:>6.2%}" in line


@pytest.mark.parametrize("k", [0, -1, 357])
def test_more_tokens_than_there_are_is_an_error(k: int, model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match=f"k={k}: expected 1 to 356, the size of the vocabulary"):
        top_tokens(model, clean, k)


def test_a_standing_needs_an_answer(model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match="no answers; give the tokens to look for"):
        standing(model, replace(clean, answer=None))
    only_answer = replace(clean, wrong_answer=None)
    assert torch.equal(standing(model, only_answer).rank, standing(model, clean).rank)


# --- loss by position -----------------------------------------------------------------------------


def test_loss_by_position(model: Any, twin: Twin, repeated: Prompts) -> None:
    expected = [
        torch.nn.functional.cross_entropy(trace.logits[:-1], tokens[1:], reduction="none")
        for trace, tokens in zip(traces(twin, repeated), rows(repeated), strict=True)
    ]
    agree(loss_by_position(model, repeated), expected)


def test_the_loss_of_a_half_is_the_mean_of_its_positions(model: Any, repeated: Prompts) -> None:
    """With BOS and 20 tokens: predictions of positions 2 to 20, and of 22 to 40."""
    nats = loss_by_position(model, repeated)
    assert nats.shape == (4, 40)
    agree(loss(model, repeated, "FIRST"), nats[:, 1:20].mean(1), ROUNDING)
    agree(loss(model, repeated, "REPEAT"), nats[:, 21:40].mean(1), ROUNDING)
    agree(loss(model, repeated), nats.mean(1), ROUNDING)


def test_the_loss_by_position_agrees_with_transformer_lens(model: Any, repeated: Prompts) -> None:
    with torch.no_grad():
        theirs = model.loss_fn(model(repeated.tokens), repeated.tokens, per_token=True)
    agree(loss_by_position(model, repeated), theirs.double())


def test_positions_of_prompts_of_several_lengths_are_refused(model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match=r"prompts differ in length.*loss\(model, prompts, at="):
        loss_by_position(model, clean)


def test_padding_beyond_equal_lengths_is_cut_off(model: Any, repeated: Prompts) -> None:
    short = replace(repeated, lengths=repeated.lengths - 3)
    agree(loss_by_position(model, short), loss_by_position(model, repeated)[:, :-3], ROUNDING)


# --- sentences ------------------------------------------------------------------------------------


def sentence(text: str, *answers: str) -> PromptPairs:
    return sentence_prompts(Vocabulary(micro.tokenizer()), text, CPU, *answers)


def test_a_sentence_is_one_prompt_with_bos() -> None:
    found = sentence("Mary gave a book to", "John", "Mary")
    words = micro.tokenizer()
    assert words.decode(found.clean.tokens[0]) == "<|endoftext|> Mary gave a book to"
    assert [words.decode(side) for side in answer_tokens(found.clean)] == ["John", "Mary"]
    assert (found.bos, len(found), found.texts) == (True, 1, ("Mary gave a book to",))
    assert found.ids != sentence("Mary gave a book").ids


@pytest.mark.parametrize(
    ("text", "answer", "reason"),
    [
        ("Mary gave a zeppelin to", "John", "the tokenizer lacks 'zeppelin', a word of 'Mary gave"),
        ("Mary gave a book to", "zeppelin", "'zeppelin' is not a single token"),
        ("Mary gave a book to", "John gave", "'John gave' is not a single token"),
    ],
)
def test_what_a_tokenizer_lacks_is_not_applicable(text: str, answer: str, reason: str) -> None:
    with pytest.raises(NotApplicable, match=reason):
        sentence(text, answer)
