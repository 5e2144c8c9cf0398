"""Copy-suppression-preserving ablation: the twin, the ends, and shares of KL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests.kernels.samples import HEADS, ROUNDING, SOME, agree, at, rows
from claimlens.ci.selftests.twin import Twin
from claimlens.ci.selftests.twin_direct import (
    along,
    kl,
    lens,
    logits_with,
    most_predicted,
    moved,
    output,
    unembeddings,
)
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.cspa import (
    Preserve,
    check_preserve,
    cspa_kl,
    cspa_kls,
    first_over_others,
    predicted_sources,
    share_kept,
)
from claimlens.circuits.kernels.direct import LOOKS, OUTPUT, STREAM, direct_run
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.metrics import kl_div
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.circuits.verdict import NotMeasured

PRESERVED: tuple[Preserve, ...] = get_args(Preserve)
SHARE = 0.2
"""More than the paper's: prompts are short here."""


@pytest.fixture(scope="module")
def same_length(repeated: Prompts) -> Prompts:
    """Four prompts of one length."""
    return repeated


def means(twin: Twin, prompts: Prompts, head: Head) -> Tensor:
    """The mean of a head's output at each position, [pos, d_model]."""
    each = [output(twin, twin.run(tokens), at(head)) for tokens in rows(prompts)]
    longest = max(len(x) for x in each)
    return torch.stack(
        [torch.stack([x[i] for x in each if len(x) > i]).mean(0) for i in range(longest)]
    )


def by_hand(
    twin: Twin, prompts: Prompts, row: int, head: Head, preserve: Preserve, share: float
) -> Tensor:
    """KL after every token but the first, look by look."""
    tokens = rows(prompts)[row]
    trace, unembed, base = twin.run(tokens), unembeddings(twin), means(twin, prompts, head)
    each, lensed = moved(twin, trace, at(head)), lens(twin, trace, tokens, head.layer)
    ids = tokens.tolist()
    kept = torch.zeros(len(ids), each.shape[1]).double()
    for dst in range(len(ids)):
        chosen = most_predicted(lensed, ids, dst, share)
        for src in range(dst + 1):
            look = trace.pattern[at(head)][dst, src]
            beyond = each[src] - base[dst]
            if preserve in ("copy suppression", "ov"):
                beyond = along(beyond, unembed[ids[src]], negative_only=True)
            if preserve == "nothing" or (preserve != "ov" and src not in chosen):
                beyond = torch.zeros_like(beyond)
            kept[dst] += look * (base[dst] + beyond)
    after = logits_with(twin, trace, kept - output(twin, trace, at(head)))
    return kl(trace.logits, after)[1:]


@pytest.mark.parametrize("preserve", PRESERVED)
def test_kl_of_what_is_preserved(
    preserve: Preserve, model: Any, twin: Twin, same_length: Prompts
) -> None:
    every = cspa_kls(model, same_length, preserve, share=SHARE)
    for head in (Head(0, 0), SOME, Head(2, 1)):
        expected = [
            by_hand(twin, same_length, row, head, preserve, SHARE).mean()
            for row in range(len(same_length))
        ]
        agree(cspa_kl(model, same_length, head, preserve, share=SHARE), expected)
        agree(every[:, head.layer, head.index], expected)
        assert float(torch.stack(expected).min()) > 1e-3


def test_with_prompts_of_several_lengths(model: Any, twin: Twin, pairs: PromptPairs) -> None:
    by_length = pairs.clean.lengths.argsort()
    two = pairs.clean.select(by_length[[0, 1, -1, -1]])  # the longest is not alone
    assert two.lengths[0] < two.lengths[-1]
    expected = [by_hand(twin, two, row, SOME, "copy suppression", SHARE).mean() for row in range(4)]
    agree(cspa_kl(model, two, SOME, share=SHARE), expected)


def test_at_a_label_it_is_the_prediction_after_it(
    model: Any, twin: Twin, same_length: Prompts
) -> None:
    places = same_length.at("REPEAT")
    found = cspa_kl(model, same_length, SOME, at="REPEAT", share=SHARE)
    for row in range(2):
        every = by_hand(twin, same_length, row, SOME, "copy suppression", SHARE)
        agree(found[row], every[places[row] - 1].mean())


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_sources_that_are_predicted_most(
    share: float, model: Any, twin: Twin, clean: Prompts
) -> None:
    run = direct_run(model, clean, HEADS, (*LOOKS, *OUTPUT, *STREAM))
    for layer in (0, 2):
        found = predicted_sources(run, layer, share)
        for row, tokens in list(enumerate(rows(clean)))[:4]:  # the subject stands there twice
            lensed = lens(twin, twin.run(tokens), tokens, layer)
            for dst in range(len(tokens)):
                chosen = set(found[row, dst].nonzero()[:, 0].tolist())
                assert chosen == most_predicted(lensed, tokens.tolist(), dst, share)


# --- the ends -------------------------------------------------------------------------------------


def test_if_every_source_counts_the_qk_side_keeps_everything(
    model: Any, same_length: Prompts
) -> None:
    assert float(cspa_kls(model, same_length, "qk", share=1.0).abs().max()) < ROUNDING
    both = cspa_kls(model, same_length, "copy suppression", share=1.0)
    agree(both, cspa_kls(model, same_length, "ov"), ROUNDING)


def test_a_silent_head_has_nothing_to_lose(model: Any, same_length: Prompts) -> None:
    silent = zero_ablate(model, SOME)
    assert float(cspa_kl(silent, same_length, SOME, "nothing").abs().max()) < ROUNDING


def test_another_token_in_the_place_of_the_source_changes_what_is_kept(
    model: Any, pairs: PromptPairs
) -> None:
    twice = torch.arange(len(pairs)).repeat(2)  # no prompt is alone at its last positions
    mixed, clean = pairs.shuffled(1).clean.select(twice), pairs.clean.select(twice)
    assert not torch.equal(cspa_kl(model, mixed, SOME), cspa_kl(model, clean, SOME))
    agree(cspa_kl(model, mixed, SOME, "nothing"), cspa_kl(model, clean, SOME, "nothing"), 1e-12)


def test_one_prompts_mean_is_no_ablation(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotMeasured, match="reached by one prompt only, whose mean is itself"):
        cspa_kl(model, clean.select(torch.tensor([0])), SOME)


def test_wrong_arguments_are_named(model: Any, same_length: Prompts) -> None:
    with pytest.raises(ValueError, match="expected one of copy suppression, ov, qk, nothing"):
        check_preserve("everything")
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"a share of the sources above 0, up to 1"):
            cspa_kl(model, same_length, SOME, share=share)


def test_a_sweep_is_remembered_by_all_that_changes_it(model: Any, pairs: PromptPairs) -> None:
    twice = torch.arange(len(pairs)).repeat(2)
    clean, mixed = pairs.clean.select(twice), pairs.shuffled(1).clean.select(twice)
    mixed = replace(mixed, tokens=clean.tokens)  # the very same tokens, read at other places
    silent = zero_ablate(model, SOME)
    tried: list[dict[str, Any]] = [
        {},
        {"preserve": "ov"},
        {"share": 0.5},
        {"at": "END"},
        {"prompts": mixed},
        {"model": silent},
    ]
    alone = [cspa_kls(**{"model": model, "prompts": clean, **given}) for given in tried]
    with remembering(Memory()):
        for _ in range(2):
            again = [cspa_kls(**{"model": model, "prompts": clean, **given}) for given in tried]
            for found, expected in zip(again, alone, strict=True):
                agree(found, expected, ROUNDING)
        first = cspa_kls(model, clean)
        assert cspa_kls(model, clean) is first
    assert all(not torch.equal(alone[0], other) for other in alone[1:])


# --- shares and margins ---------------------------------------------------------------------------


def test_the_share_is_the_ratio_of_means_with_the_ratios_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.rand(400, 1, 1, generator=generator).double() + 0.5
    ablated = 0.3 * mean + 0.05 * torch.randn(400, 1, 1, generator=generator).double()
    found = share_kept(ablated, mean)
    assert float(found.mean()) == pytest.approx(float(1 - ablated.mean() / mean.mean()))
    drawn = torch.randint(400, (2000, 400), generator=generator)
    again = 1 - ablated[drawn, 0, 0].mean(1) / mean[drawn, 0, 0].mean(1)
    assert float(found.std()) / 20 == pytest.approx(float(again.std()), rel=0.1)


def test_where_there_is_no_effect_nothing_is_kept() -> None:
    mean = torch.tensor([[[1e-9, 1.0]], [[2e-9, 1.0]]])
    found = share_kept(torch.zeros(2, 1, 2), mean)
    assert found[:, 0].tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_the_first_head_is_compared_with_those_outside_its_role() -> None:
    scores = torch.tensor([[[3.0, 4.0], [2.0, 1.0]], [[3.5, 4.0], [2.0, 1.0]]])
    assert first_over_others(scores, [Head(0, 0), Head(0, 1)]).tolist() == [1.0, 1.5]
    assert first_over_others(scores, [Head(0, 0)]).tolist() == [-1.0, -0.5]
    assert first_over_others(scores, [Head(1, 1), Head(0, 1)]).tolist() == [-2.0, -2.5]


# --- kl_div ---------------------------------------------------------------------------------------


def test_kl_divergence_of_two_runs(model: Any, twin: Twin, clean: Prompts) -> None:
    ablated = zero_ablate(model, SOME)
    found, at_end = kl_div(ablated, clean, of=model), kl_div(ablated, clean, of=model, at="END")
    bias = twin.b_v(at(SOME))  # in the processed model z = 0 stands for the value bias
    for row, tokens in list(enumerate(rows(clean)))[:3]:
        before = twin.run(tokens).logits
        after = twin.run(tokens, {at(SOME): lambda z: bias.expand_as(z)}).logits
        agree(found[row], kl(before, after).mean())
        agree(at_end[row], kl(before, after)[-1])


def test_kl_divergence_ends_at_zero_and_is_not_symmetric(model: Any, clean: Prompts) -> None:
    assert not kl_div(model, clean, of=model).any()
    ablated = zero_ablate(model, SOME)
    there, back = kl_div(ablated, clean, of=model), kl_div(model, clean, of=ablated)
    assert float((there - back).abs().min()) > 1e-9


def test_kl_divergence_agrees_with_torch(model: Any, clean: Prompts) -> None:
    ablated = zero_ablate(model, SOME)
    from claimlens.circuits.kernels.cache import cache

    tokens = int(clean.lengths[0])
    q, p = (cache(m, clean).logits[0, :tokens].log_softmax(-1) for m in (ablated, model))
    theirs = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum") / tokens
    agree(kl_div(ablated, clean, of=model)[0], theirs, ROUNDING)
