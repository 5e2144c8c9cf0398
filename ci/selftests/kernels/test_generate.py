"""Continuations against the twin and TransformerLens: greedy, sampled, bounded."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import HEADS, agree, rows
from claimlens.ci.selftests.twin import Twin
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.generate import continue_text, generate, without_last
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.metrics import end_logits
from claimlens.circuits.parts import Prompts


def test_greedy_is_the_likeliest_token_again_and_again(
    model: Any, twin: Twin, clean: Prompts
) -> None:
    expected = []
    for prompt in rows(clean):
        tokens = prompt
        for _ in range(4):
            tokens = torch.cat([tokens, twin.run(tokens).logits[-1].argmax()[None]])
        expected.append(tokens[-4:].tolist())
    assert generate(model, clean, 4, temperature=0).tolist() == expected


def test_greedy_agrees_with_transformer_lens(model: Any, clean: Prompts) -> None:
    found = generate(model, clean, 6, temperature=0)
    for row, tokens in enumerate(rows(clean)[:3]):
        theirs = model.generate(
            tokens[None], max_new_tokens=6, do_sample=False, stop_at_eos=False, verbose=False
        )
        assert theirs[0, len(tokens) :].tolist() == found[row].tolist()


def test_the_same_seed_gives_the_same_tokens_and_another_gives_others(
    model: Any, clean: Prompts
) -> None:
    first, again = generate(model, clean, 8, seed=3), generate(model, clean, 8, seed=3)
    assert torch.equal(first, again)
    assert not torch.equal(first, generate(model, clean, 8, seed=4))
    with remembering(Memory()):
        assert torch.equal(first, generate(model, clean, 8, seed=3))


def test_a_larger_set_begins_with_the_smaller_one(model: Any, clean: Prompts) -> None:
    few = clean.select(torch.tensor([0, 1, 2]))
    assert torch.equal(generate(model, clean, 5, seed=1)[:3], generate(model, few, 5, seed=1))


def test_the_random_state_of_the_process_is_left_alone(model: Any, clean: Prompts) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    generate(model, clean, 2)
    assert torch.equal(torch.rand(3), expected)


def test_tokens_are_drawn_as_often_as_the_temperature_says(model: Any, clean: Prompts) -> None:
    """A thousand first tokens of one prompt: frequencies within 5 standard deviations."""
    n, temperature = 1000, 0.7
    many = clean.select(torch.zeros(n, dtype=torch.long))
    drawn = generate(model, many, 1, temperature=temperature, seed=5)[:, 0]
    likely = (end_logits(model, clean)[0] / temperature).softmax(0)
    for token in likely.topk(3).indices:
        p = float(likely[token])
        assert 0.03 < p < 0.9  # so that never drawing it would be noticed
        share = float((drawn == token).double().mean())
        assert abs(share - p) < 5 * (p * (1 - p) / n) ** 0.5


def test_a_low_temperature_is_nearly_greedy(model: Any, clean: Prompts) -> None:
    greedy = generate(model, clean, 3, temperature=0)
    assert torch.equal(generate(model, clean, 3, temperature=1e-4), greedy)
    assert not torch.equal(generate(model, clean, 3, temperature=5.0), greedy)


def test_an_edited_model_continues_otherwise(model: Any, clean: Prompts) -> None:
    plain = generate(model, clean, 4, temperature=0)
    assert not torch.equal(generate(zero_ablate(model, HEADS), clean, 4, temperature=0), plain)


# --- the context ----------------------------------------------------------------------------------


def test_it_fills_the_context_and_not_more(model: Any, repeated: Prompts) -> None:
    """41 tokens in a context of 48: the eighth new token is predicted, and needs no place."""
    assert generate(model, repeated, 8, temperature=0).shape == (4, 8)
    with pytest.raises(ValueError, match=r"41 tokens and 9 more do not fit .* of 48; .* at most 8"):
        generate(model, repeated, 9)


@pytest.mark.parametrize(("length", "temperature"), [(0, 1.0), (3, -0.5), (3, float("nan"))])
def test_no_length_and_negative_temperatures_are_refused(
    length: int, temperature: float, model: Any, clean: Prompts
) -> None:
    with pytest.raises(ValueError, match="at least one token and a temperature of 0"):
        generate(model, clean, length, temperature=temperature)


# --- one prompt, for a report ---------------------------------------------------------------------


def test_a_continuation_has_ids_and_pieces(model: Any, twin: Twin) -> None:
    words = micro.tokenizer()
    ids = words.encode("Mary gave a book to", add_special_tokens=False)
    told = continue_text(model, ids, words.decode, 3, temperature=0, bos=0)
    first = twin.run(torch.tensor([0, *ids])).logits[-1].argmax()
    assert told.ids[0] == int(first)
    assert told.pieces == tuple(words.decode([token]) for token in told.ids)
    assert told.text == "".join(told.pieces)
    without = continue_text(model, ids, words.decode, 3, temperature=0)
    assert without.ids[0] == int(twin.run(torch.tensor(ids)).logits[-1].argmax())


def test_bos_is_never_put_before_bos(model: Any) -> None:
    with pytest.raises(ValueError, match=r"begins with BOS \(0\) already; leave bos out"):
        continue_text(model, (0, 5, 6), str, bos=0)


def test_an_empty_prompt_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="an empty prompt has nothing to continue; give bos"):
        continue_text(model, [], str)
    assert len(continue_text(model, [], str, 2, bos=0).ids) == 2


# --- prompts without their end --------------------------------------------------------------------


def test_prompts_without_their_last_tokens_are_shorter_prompts(model: Any, clean: Prompts) -> None:
    cut = without_last(clean, 2)
    for short, whole in zip(rows(cut), rows(clean), strict=True):
        assert torch.equal(short, whole[:-2])
    assert set(cut.positions) == {"END"}
    alone = cut.select(torch.tensor([0]))
    agree(end_logits(model, alone), end_logits(model, cut)[:1], 1e-10)
    assert torch.equal(without_last(clean, 0).tokens, clean.tokens)


def test_a_prompt_is_not_cut_to_nothing(clean: Prompts) -> None:
    shortest = int(clean.lengths.min())
    with pytest.raises(ValueError, match=f"the shortest prompt has {shortest}"):
        without_last(clean, shortest)
