"""Attention scores and signed sums, against the twin and against TransformerLens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from claimlens.ci.selftests.kernels.samples import (
    HEADS,
    ROUNDING,
    SOME,
    TOLERANCES,
    agree,
    at,
    index_of,
    rows,
)
from claimlens.ci.selftests.twin import Twin
from claimlens.ci.selftests.twin_query import run
from claimlens.circuits.kernels.attention import (
    attention,
    attention_score,
    attention_sum,
    parsed,
)
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_scores(head: Head, model: Any, twin: Twin, clean: Prompts) -> None:
    expected = [
        run(twin, tokens).scores[at(head)][-1, src]
        for tokens, (src,) in zip(rows(clean), index_of(clean, "S1"), strict=True)
    ]
    agree(attention_score(model, clean, head, "END", "S1"), expected)


def test_scores_of_paired_slots_are_averaged(model: Any, twin: Twin, repeated: Prompts) -> None:
    places = zip(index_of(repeated, "REPEAT"), index_of(repeated, "FIRST+1"), strict=True)
    expected = []
    for tokens, (dst, src) in zip(rows(repeated), places, strict=True):
        scores = run(twin, tokens).scores[at(SOME)]
        expected.append(torch.stack([scores[d, s] for d, s in zip(dst, src, strict=True)]).mean())
    agree(attention_score(model, repeated, SOME, "REPEAT", "FIRST+1"), expected)


def test_scores_agree_with_transformer_lens(model: Any, clean: Prompts) -> None:
    _, stored = model.run_with_cache(clean.tokens)
    each, end, s2 = torch.arange(len(clean)), clean.at("END")[:, 0], clean.at("S2")[:, 0]
    for head in HEADS:
        theirs = stored["attn_scores", head.layer][each, head.index, end, s2].detach()
        agree(attention_score(model, clean, head, "END", "S2"), theirs, ROUNDING)


def test_a_masked_score_is_an_error_and_not_minus_infinity(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotMeasured, match="END lies after S1 in some prompt: that score is masked"):
        attention_score(model, clean, SOME, "S1", "END")
    with pytest.raises(NotMeasured, match="that score is masked"):
        attention_sum(model, clean, SOME, "IO-S2", dst="S1", of="score")


SUMS = [
    ("IO", [(1, "IO")]),
    ("-IO", [(-1, "IO")]),
    ("IO-S1", [(1, "IO"), (-1, "S1")]),
    ("IO-S1-S2", [(1, "IO"), (-1, "S1"), (-1, "S2")]),
    ("S1+IO-S2", [(1, "S1"), (1, "IO"), (-1, "S2")]),
    ("S1 + S2 - IO", [(1, "S1"), (1, "S2"), (-1, "IO")]),
    ("IO-S1+1-BOS", [(1, "IO"), (-1, "S1+1"), (-1, "BOS")]),
    ("END-2+S1-1", [(1, "END-2"), (1, "S1-1")]),
]


@pytest.mark.parametrize(("terms", "expected"), SUMS, ids=[terms for terms, _ in SUMS])
def test_a_signed_sum_is_read(terms: str, expected: list[tuple[int, str]]) -> None:
    assert parsed(terms) == expected


@pytest.mark.parametrize("terms", ["", "-", "IO-", "IO--S1", "IO S1", "2*IO", "IO-S1+", "1+IO"])
def test_what_is_no_signed_sum_is_an_error(terms: str) -> None:
    with pytest.raises(ValueError, match="not a signed sum of positions"):
        parsed(terms)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_a_signed_sum_of_scores(dtype: str, tolerance: float, twin: Twin, clean: Prompts) -> None:
    from claimlens.ci.selftests import micro

    places = (index_of(clean, label) for label in ("IO", "S1", "S2"))
    expected = []
    for tokens, (io,), (s1,), (s2,) in zip(rows(clean), *places, strict=True):
        scores = run(twin, tokens).scores[at(SOME)][-1]
        expected.append(scores[io] - scores[s1] - scores[s2])
    bridge = micro.bridge(dtype)
    agree(attention_sum(bridge, clean, SOME, "IO-S1-S2", of="score"), expected, tolerance)


@pytest.mark.parametrize("side", ["clean", "corrupted"])
def test_a_signed_sum_of_probabilities_on_either_side(
    side: str, model: Any, pairs: PromptPairs
) -> None:
    prompts = getattr(pairs, side)
    s1, io, s2 = (attention(model, prompts, SOME, "END", src) for src in ("S1", "IO", "S2"))
    agree(attention_sum(model, prompts, SOME, "S1+IO-S2"), s1 + io - s2, ROUNDING)


def test_one_prompt_is_one_index(model: Any, clean: Prompts) -> None:
    """The mean over prompts, or one of them: what comes back is one value per prompt."""
    alone = clean.select(torch.tensor([3]))
    together = attention_sum(model, clean, SOME, "IO-S1-S2")
    agree(attention_sum(model, alone, SOME, "IO-S1-S2"), together[3:4], ROUNDING)


def test_unknown_places_and_heads_are_errors(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotMeasured, match="no position 'S3'"):
        attention_sum(model, clean, SOME, "IO-S3")
    with pytest.raises(NotApplicable, match="no head L9H9"):
        attention_score(model, clean, Head(9, 9), "END", "IO")
