"""Position and token signals of S-inhibition, and prompts that name the object twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import agree, at, diff, rows
from claimlens.ci.selftests.twin import Change, Twin
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.kernels.signals import (
    signal_coefficients,
    signal_effects,
    signal_variants,
)
from claimlens.circuits.metrics import answer_tokens, logit_diff
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured
from claimlens.fixtures.prompts.ioi_duplicated import duplicated_io_prompts
from claimlens.fixtures.tokens import Vocabulary

PAIR = [Head(1, 0), Head(1, 1)]
WORDS = Vocabulary(micro.tokenizer())
CPU = torch.device("cpu")


def test_the_variants_turn_where_the_name_was_and_which_it_is(clean: Prompts) -> None:
    """A signal speaks for S (+1) where S2's token, or S1's place, is what it was."""
    at_rows = torch.arange(len(clean))
    io, s1, s2 = (clean.at(label)[:, 0] for label in ("IO", "S1", "S2"))
    subject = clean.tokens[at_rows, s1]
    for variant in signal_variants(clean):
        tokens = variant.prompts.tokens
        repeated = tokens[at_rows, s2]
        assert bool(((repeated == subject) == (variant.token == 1)).all()), variant.name
        first = torch.where(tokens[at_rows, s1] == repeated, s1, io)
        assert bool((tokens[at_rows, first] == repeated).all())
        assert bool(((first == s1) == (variant.position == 1)).all()), variant.name
        others = torch.ones_like(tokens, dtype=torch.bool)
        for place in (io, s1, s2):
            others[at_rows, place] = False
        assert torch.equal(tokens[others], clean.tokens[others])


def ends_as(new: Tensor) -> Change:
    return lambda z: torch.cat([z[:-1], new[-1:]])


def test_effects_of_the_heads_output_at_end_alone(model: Any, twin: Twin, clean: Prompts) -> None:
    variants = signal_variants(clean)
    found = signal_effects(model, clean, PAIR, variants)
    for column, variant in enumerate(variants):
        expected = []
        for row, tokens in enumerate(rows(clean)):
            theirs = twin.run(rows(variant.prompts)[row]).z
            changes = {at(head): ends_as(theirs[at(head)]) for head in PAIR}
            expected.append(diff(twin.run(tokens, z_changes=changes), clean, row))
        agree(found[:, column], expected)
    agree(found[:, 0], logit_diff(model, clean), 0)


def test_the_coefficients_are_the_fit_of_the_four_variants(model: Any, clean: Prompts) -> None:
    """Against least squares with an intercept and an interaction left over, prompt by prompt."""
    variants = signal_variants(clean)
    effects = signal_effects(model, clean, PAIR, variants)
    design = torch.tensor([[1.0, v.position, v.token] for v in variants]).double()
    fitted = torch.linalg.lstsq(design, effects.T).solution.T
    agree(signal_coefficients(model, clean, PAIR), fitted[:, 1:], 1e-10)


def test_what_is_no_ioi_prompt_is_refused(clean: Prompts) -> None:
    tokens = clean.tokens.clone()
    tokens[0, clean.at("S2")[0, 0]] = 5
    with pytest.raises(ValueError, match="S1 and S2 are different tokens"):
        signal_variants(replace(clean, tokens=tokens))


def test_heads_that_a_variant_does_not_reach_are_not_measured() -> None:
    """A model whose heads are all silent."""
    silent = micro.random_model()
    with torch.no_grad():
        for block in silent.transformer.h:
            block.attn.c_attn.weight.zero_()
    from claimlens.fixtures.prompts.ioi import ioi_prompts

    few = ioi_prompts(WORDS, 4, 0, CPU).clean
    with pytest.raises(NotMeasured, match="changed nothing"):
        signal_coefficients(micro.boot_micro(silent), few, Head(1, 0))


# --- the object named twice -----------------------------------------------------------------------


def test_the_object_is_named_once_more_and_in_the_control_a_third() -> None:
    found = duplicated_io_prompts(WORDS, 24, 0, CPU)
    assert found.corrupted is not None
    at_rows = torch.arange(len(found))
    answer, wrong = answer_tokens(found.clean)
    for side, third in ((found.clean, False), (found.corrupted, True)):
        named = {label: side.tokens[at_rows, side.at(label)[:, 0]] for label in LABELS}
        assert torch.equal(named["IO"], answer)
        assert torch.equal(named["S1"], wrong)
        assert torch.equal(named["S2"], wrong)
        assert bool(((named["MENTION"] == answer) != third).all())
        assert not bool((named["MENTION"] == wrong).any())
        assert bool((side.at("MENTION") < side.at("S2")).all())
    assert torch.equal(found.clean.lengths, found.corrupted.lengths)


LABELS = ("IO", "S1", "S2", "MENTION")


def test_a_larger_set_begins_with_the_smaller_one() -> None:
    small = duplicated_io_prompts(WORDS, 6, 0, CPU)
    assert small.grow is not None
    large = small.grow(12)
    assert large.texts[:6] == small.texts
    assert large.digest == duplicated_io_prompts(WORDS, 12, 0, CPU).digest


def test_a_vocabulary_of_few_names_is_not_applicable() -> None:
    few = micro.tokenizer(["<|endoftext|>", "a", "Mary", "John"])
    with pytest.raises(NotApplicable, match="knows 2 names"):
        duplicated_io_prompts(Vocabulary(few), 4, 0, CPU)


def test_variants_of_the_same_prompts_share_their_runs(model: Any, pairs: PromptPairs) -> None:
    plain = signal_variants(pairs.clean)
    with remembering(Memory()):
        first, again = signal_variants(pairs.clean), signal_variants(pairs.clean)
        mixed = signal_variants(pairs.shuffled(0).clean)
    for one, two, three in zip(plain, first, again, strict=True):
        assert torch.equal(one.prompts.tokens, two.prompts.tokens)
        assert two.prompts.tokens is three.prompts.tokens
    assert not torch.equal(mixed[1].prompts.tokens, first[1].prompts.tokens)
