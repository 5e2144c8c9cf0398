"""Scores of all heads against the twin, against transformer_lens' detector, and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import HEADS, agree, at, index_of, rows, traces
from claimlens.ci.selftests.twin import Trace, Twin
from claimlens.circuits.kernels.attention import attention
from claimlens.circuits.kernels.bridge import Bridge
from claimlens.circuits.kernels.cache import Edit, edited
from claimlens.circuits.kernels.induction import (
    Kind,
    half_of,
    head_pattern,
    head_scores,
    label_scores,
    matches,
    stripe,
)
from claimlens.circuits.metrics import excess_over_others
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

KINDS: list[Kind] = ["previous_token", "duplicate_token", "induction"]
PLACES = [("REPEAT", "FIRST+1"), ("REPEAT", "REPEAT-1"), ("REPEAT", "FIRST")]
BOTH = pytest.mark.parametrize("bos", [True, False], ids=["bos", "no-bos"])


def repeated_pairs(bos: bool, n: int = 4) -> PromptPairs:
    from claimlens.fixtures.prompts.repeated import repeated_prompts
    from claimlens.fixtures.tokens import Vocabulary

    cpu, words = torch.device("cpu"), Vocabulary(micro.tokenizer())
    return repeated_prompts(words, n, 0, cpu, micro.CONTEXT, bos=bos)


def by_head(one: list[dict[Head, Tensor]]) -> Tensor:
    """One dictionary per prompt, as "batch layer head"."""
    flat = [torch.stack([scores[head] for head in HEADS]) for scores in one]
    return torch.stack(flat).reshape(len(one), micro.LAYERS, micro.HEADS)


# --- against the twin -----------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(("dst", "src"), PLACES)
def test_scores_between_labels(bos: bool, dst: str, src: str, model: Any, twin: Twin) -> None:
    prompts = repeated_pairs(bos).clean
    to, source = index_of(prompts, dst), index_of(prompts, src)
    expected = [
        {head: trace.pattern[at(head)][to[row], source[row]].mean() for head in HEADS}
        for row, trace in enumerate(traces(twin, prompts))
    ]
    agree(label_scores(model, prompts, dst, src), by_head(expected))


@BOTH
@pytest.mark.parametrize("first", [None, 21, 22])
def test_the_stripe_is_the_diagonal_of_the_demo(
    bos: bool, first: int | None, model: Any, twin: Twin
) -> None:
    prompts, back = repeated_pairs(bos).clean, 19
    expected = [
        {
            head: torch.stack(
                [trace.pattern[at(head)][d, d - back] for d in range(first or back, len(tokens))]
            ).mean()
            for head in HEADS
        }
        for trace, tokens in zip(traces(twin, prompts), rows(prompts), strict=True)
    ]
    agree(stripe(model, prompts, back, first), by_head(expected))


def test_the_demos_own_line_gives_the_stripe(model: Any) -> None:
    prompts, half = repeated_pairs(bos=False).clean, 20
    _, cached = model.run_with_cache(prompts.tokens)
    for layer in range(micro.LAYERS):
        diagonal = cached["pattern", layer].diagonal(dim1=-2, dim2=-1, offset=1 - half)
        assert diagonal.shape[-1] == half + 1
        agree(stripe(model, prompts, half - 1)[:, layer], diagonal.mean(-1).double())


def test_the_stripe_of_padded_prompts_ends_with_each_prompt(
    model: Any, twin: Twin, clean: Prompts
) -> None:
    expected = [
        {head: trace.pattern[at(head)].diagonal(-3).mean() for head in HEADS}
        for trace in traces(twin, clean)
    ]
    agree(stripe(model, clean, 3), by_head(expected))


def pairs_by_hand(tokens: list[int], kind: Kind) -> list[tuple[int, int]]:
    n = len(tokens)
    earlier = [(d, s) for d in range(n) for s in range(d) if tokens[d] == tokens[s]]
    return {
        "previous_token": [(d, d - 1) for d in range(1, n)],
        "duplicate_token": earlier,
        "induction": [(d, s + 1) for d, s in earlier],
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_of_each_kind(kind: Kind, clean: Prompts) -> None:
    found = matches(clean, kind)
    for row, tokens in enumerate(rows(clean)):
        assert found[row].nonzero().tolist() == sorted(
            map(list, pairs_by_hand(tokens.tolist(), kind))
        )


def share(trace: Trace, tokens: Tensor, kind: Kind, head: Head, per: str) -> Tensor:
    pairs = pairs_by_hand(tokens.tolist(), kind)
    hit = torch.stack([trace.pattern[at(head)][d, s] for d, s in pairs]).sum()
    return hit / (len({d for d, _ in pairs}) if per == "destination" else len(tokens))


@pytest.mark.parametrize("per", ["destination", "attention"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_by_kind(kind: Kind, per: Any, model: Any, twin: Twin, clean: Prompts) -> None:
    expected = [
        {head: share(trace, tokens, kind, head, per) for head in HEADS}
        for trace, tokens in zip(traces(twin, clean), rows(clean), strict=True)
    ]
    agree(head_scores(model, clean, kind, per), by_head(expected))


# --- against TransformerLens ----------------------------------------------------------------------


@pytest.mark.parametrize("exclude_bos", [False, True])
@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_agree_with_detect_head(
    kind: Kind, exclude_bos: bool, exclude_self: bool, model: Any
) -> None:
    from transformer_lens.head_detector import detect_head

    pairs = repeated_pairs(bos=True, n=3)
    found = head_scores(
        model,
        pairs.clean,
        kind,
        "attention",
        exclude_bos=exclude_bos,
        exclude_self=exclude_self,
    )
    for row, text in enumerate(pairs.texts):
        assert torch.equal(model.to_tokens(text)[0], pairs.clean.tokens[row])
        theirs = detect_head(
            model,
            text,
            f"{kind}_head",  # type: ignore[arg-type]  # one of its three names
            exclude_bos=exclude_bos,
            exclude_current_token=exclude_self,
        )
        agree(found[row], theirs.double())


# --- calibration: a model that looks where we know ------------------------------------------------


def looking_back(model: Bridge, back: int, head: Head) -> Any:
    """One head attends `back` tokens back where it can, and else to itself."""

    def apply(pattern: Tensor) -> Tensor:
        changed = pattern.clone()
        own = changed[:, head.index]
        own.zero_()
        for dst in range(own.shape[1]):
            own[:, dst, dst - back if dst >= back else dst] = 1
        return changed

    return edited(model, Edit(f"blocks.{head.layer}.attn.hook_pattern", apply, "looking back"))


@BOTH
def test_a_perfect_induction_head_scores_one_and_an_idle_one_nothing(bos: bool, model: Any) -> None:
    prompts, head = repeated_pairs(bos).clean, Head(1, 1)
    half = half_of(prompts)
    assert half == 20
    perfect, early = looking_back(model, half - 1, head), looking_back(model, half - 2, head)
    ones = torch.ones(len(prompts), dtype=torch.float64)
    agree(label_scores(perfect, prompts, "REPEAT", "FIRST+1")[:, 1, 1], ones)
    agree(stripe(perfect, prompts, half - 1)[:, 1, 1], ones)
    agree(head_scores(perfect, prompts, "induction")[:, 1, 1], ones)
    assert not bool(label_scores(early, prompts, "REPEAT", "FIRST+1")[:, 1, 1].any())
    assert not bool(stripe(early, prompts, half - 1)[:, 1, 1].any())


@BOTH
def test_the_stripe_from_the_repetition_on_is_that_of_the_labels(bos: bool, model: Any) -> None:
    prompts = repeated_pairs(bos).clean
    half, labelled = half_of(prompts), label_scores(model, prompts, "REPEAT", "FIRST+1")
    agree(stripe(model, prompts, half - 1, half + 1 + bos), labelled)
    off_by_one = stripe(model, prompts, half - 1, half + bos)
    assert bool(((off_by_one - labelled).abs() > 1e-6).all())


def test_what_the_demos_stripe_holds_beyond_induction(model: Any) -> None:
    """Its first destination, half - 1, looks at position 0; the rest are the pairs of its kind."""
    prompts, half = repeated_pairs(bos=False).clean, 20
    extra = torch.stack(
        [
            torch.stack([head_pattern(model, prompts, Head(n, h))[:, half - 1, 0] for h in (0, 1)])
            for n in range(micro.LAYERS)
        ]
    ).permute(2, 0, 1)
    by_kind = head_scores(model, prompts, "induction")
    agree(stripe(model, prompts, half - 1) * (half + 1), by_kind * half + extra)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_one_heads_pattern_and_score_are_those_of_all(head: Head, model: Any) -> None:
    prompts = repeated_pairs(bos=True).clean
    mine = label_scores(model, prompts, "REPEAT", "FIRST+1")[:, head.layer, head.index]
    agree(mine, attention(model, prompts, head, "REPEAT", "FIRST+1"))
    pattern = head_pattern(model, prompts, head)
    assert pattern.shape == (4, 41, 41)
    agree(pattern.sum(-1), torch.ones(4, 41, dtype=torch.float64))


# --- prompts without BOS --------------------------------------------------------------------------


def test_prompts_without_bos_begin_with_a_random_token() -> None:
    with_bos, without = repeated_pairs(bos=True), repeated_pairs(bos=False)
    assert (with_bos.bos, without.bos) == (True, False)
    assert torch.equal(with_bos.clean.tokens[:, 1:], without.clean.tokens)
    assert without.texts == with_bos.texts
    assert without.digest != with_bos.digest
    for label in ("FIRST", "REPEAT", "END"):
        assert torch.equal(with_bos.clean.at(label) - 1, without.clean.at(label))
    with pytest.raises(NotMeasured, match="no position 'BOS'"):
        without.clean.at("BOS")


def test_prompts_without_bos_grow_without_bos() -> None:
    few = repeated_pairs(bos=False)
    assert few.grow is not None
    more = few.grow(8)
    assert not more.bos
    assert more.name == "repeated_tokens_no_bos"
    assert torch.equal(more.clean.tokens[:4], few.clean.tokens)


# --- what is refused ------------------------------------------------------------------------------


def test_a_prompt_without_such_a_pair_is_not_measured(model: Any) -> None:
    fresh = repeated_pairs(bos=False).clean
    once = replace(fresh, tokens=fresh.tokens[:, :20], lengths=fresh.lengths - 20, positions={})
    for kind in ("duplicate_token", "induction"):
        with pytest.raises(NotMeasured, match=f"some prompt has no {kind} pair"):
            head_scores(model, once, kind)
    head_scores(model, once, "previous_token")


@pytest.mark.parametrize(("back", "first"), [(-1, None), (40, None), (5, 4), (5, 40)])
def test_a_stripe_that_no_position_has_is_refused(back: int, first: int | None, model: Any) -> None:
    with pytest.raises(ValueError, match="expected 0 <= back <= first < 40"):
        stripe(model, repeated_pairs(bos=False).clean, back, first)


def test_the_half_of_prompts_that_do_not_repeat_is_not_measured() -> None:
    with pytest.raises(NotMeasured, match="not at one distance from FIRST"):
        half_of(repeated_pairs(bos=True).shuffled(0).clean)


def test_a_head_that_is_not_there_has_no_pattern(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotApplicable, match="no head L9H0"):
        head_pattern(model, clean, Head(9, 0))


# --- the contrast of a claim ----------------------------------------------------------------------


def test_the_excess_is_of_means() -> None:
    scores = torch.tensor([[[1.0, 5.0], [2.0, 4.0]]])
    assert excess_over_others(scores, [Head(0, 1), Head(1, 1)]).tolist() == [3.0]
    assert excess_over_others(scores, [Head(0, 0)]).tolist() == pytest.approx([1 - 11 / 3])
    for heads in ([], [Head(n, h) for n in (0, 1) for h in (0, 1)]):
        with pytest.raises(ValueError, match="a contrast needs both sides"):
            excess_over_others(scores, heads)
