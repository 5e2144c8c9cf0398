"""Effects on the attended token's own logit: the twin, the weightings, and what counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests.kernels.samples import HEADS, ROUNDING, SOME, agree, at, rows
from claimlens.ci.selftests.twin import Twin
from claimlens.ci.selftests.twin_direct import effect_shares
from claimlens.circuits.kernels.copy_suppression import (
    Counted,
    copy_effect,
    effect_map,
    source_effect,
    source_effects,
)
from claimlens.circuits.kernels.direct import direct_run
from claimlens.circuits.kernels.projection_loss import loss_changes
from claimlens.circuits.parts import Head, PromptPairs, Prompts

OPTIONS = {
    "all": Counted(),
    "not at itself": Counted(self_attention=False),
    "from 0.1": Counted(at_least=0.1),
    "negative": Counted(negative_only=True),
    "all at once": Counted(self_attention=False, at_least=0.1, negative_only=True),
}
SHOWN = (Head(0, 0), SOME, Head(2, 1))


def by_hand(
    twin: Twin, tokens: Tensor, head: Head, counted: Counted
) -> tuple[Tensor, Tensor, Tensor]:
    """Per source, per destination and per sequence, summed look by look."""
    shares = effect_shares(
        twin, tokens, at(head), tokens.tolist(), negative_only=counted.negative_only
    )
    pattern = twin.run(tokens).pattern[at(head)]
    n = len(tokens)
    source, destination, paid = (torch.zeros(n).double() for _ in range(3))
    for dst in range(1, n):
        for src in range(1, dst + 1):
            unseen = float(pattern[dst, src]) < counted.at_least
            if unseen or (src == dst and not counted.self_attention):
                continue
            source[src] += shares[dst, src]
            destination[dst] += shares[dst, src]
            paid[src] += pattern[dst, src]
    return source, destination, (source * paid).sum() / paid.sum()


@pytest.mark.parametrize("name", OPTIONS)
def test_effects_by_source_by_destination_and_by_sequence(
    name: str, model: Any, twin: Twin, clean: Prompts
) -> None:
    counted = OPTIONS[name]
    found = source_effects(model, clean, counted)
    for row, tokens in list(enumerate(rows(clean)))[:3]:
        for head in SHOWN:
            source, destination, sequence = by_hand(twin, tokens, head, counted)
            n, own = len(tokens), (row, head.layer, head.index)
            agree(found.per_source[own][:n], source)
            agree(found.per_destination[own][:n], destination)
            agree(found.per_sequence[own], sequence, 1e-4)
            assert not found.per_source[own][n:].any()


def test_the_options_count_differently(model: Any, clean: Prompts) -> None:
    found = {n: source_effects(model, clean, c).per_sequence for n, c in OPTIONS.items()}
    for name in list(OPTIONS)[1:]:
        assert float((found[name] - found["all"]).nan_to_num().abs().max()) > 0.01, name


def test_at_end_the_effects_sum_to_the_copy_effect(model: Any, clean: Prompts) -> None:
    end = clean.at("END")[:, None, None].expand(-1, 3, 2, 1)
    per_destination = source_effects(model, clean).per_destination.gather(-1, end)[..., 0]
    agree(per_destination, copy_effect(model, clean), ROUNDING)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_one_head_is_its_entry_of_all(head: Head, model: Any, clean: Prompts) -> None:
    for counted in OPTIONS.values():
        every = source_effects(model, clean, counted).per_sequence
        found = source_effect(model, clean, head, counted)
        assert torch.equal(found.nan_to_num(9.0), every[:, head.layer, head.index].nan_to_num(9.0))


def test_what_is_moved_sums_to_what_transformer_lens_says_a_head_writes(
    model: Any, clean: Prompts
) -> None:
    run = direct_run(model, clean, HEADS)
    for row, tokens in list(enumerate(rows(clean)))[:2]:
        n = len(tokens)
        _, stored = model.run_with_cache(tokens[None])
        theirs = stored.stack_head_results(layer=-1)[:, 0].detach()
        for i, head in enumerate(HEADS):
            ours = run.pattern(head)[row, :n, :n] @ run.moved(head)[row, :n]
            agree(ours, theirs[i], ROUNDING)


def test_shuffled_prompts_read_the_logit_of_another_token(
    model: Any, twin: Twin, pairs: PromptPairs
) -> None:
    mixed = pairs.shuffled(3).clean
    assert mixed.moved is not None
    tokens = rows(mixed)[0]
    n = len(tokens)
    others = tokens[mixed.moved[0, :n]].tolist()
    shares = effect_shares(twin, tokens, at(SOME), others)
    found = source_effects(model, mixed).per_source[0, SOME.layer, SOME.index, :n]
    agree(found[1:], shares[1:, 1:].sum(0))
    assert not torch.allclose(found, source_effects(model, pairs.clean).per_source[0, 1, 1, :n])


def test_a_head_that_never_looks_that_hard_has_no_mean(model: Any, clean: Prompts) -> None:
    found = source_effects(model, clean, Counted(at_least=1.0))
    assert bool(found.per_sequence.isnan().all())  # a Measurement of it is "not measured"
    assert not found.per_source.any()


@pytest.mark.parametrize("at_least", [-0.1, 1.5])
def test_a_threshold_is_a_probability(at_least: float) -> None:
    with pytest.raises(ValueError, match="an attention probability from 0 to 1"):
        Counted(at_least=at_least)


def test_the_map_shows_the_prompts_it_has_words_for(model: Any, clean: Prompts) -> None:
    words = [["w"] * n for n in clean.lengths.tolist()[:2]]
    effects = source_effects(model, clean).per_source
    found = effect_map("title", words, effects, [SOME, Head(2, 0)]).to_json()
    assert list(found["frames"]) == ["L1H1", "L2H0"]
    shown = found["frames"]["L1H1"][1]
    assert len(shown) == len(words[1])
    agree(torch.tensor(shown, dtype=torch.float64), effects[1, 1, 1, : len(shown)], 1e-9)
    assert found["unit"] == "logits"
    changes = loss_changes(model, clean, "projection")
    assert effect_map("title", words, changes, [SOME], "nats").unit == "nats"


def test_a_map_of_other_prompts_is_refused(model: Any, clean: Prompts) -> None:
    effects = source_effects(model, clean).per_source
    with pytest.raises(ValueError, match="give the same prompts"):
        effect_map("title", [["w"] * 99], effects, [SOME])
