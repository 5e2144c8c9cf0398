"""Attention and direct attribution against the twin and against TransformerLens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import (
    HEADS,
    ROUNDING,
    SOME,
    TOLERANCES,
    agree,
    at,
    index_of,
    rows,
    traces,
)
from claimlens.ci.selftests.twin import Twin
from claimlens.circuits.kernels.ablate import mean_ablate, resample_ablate, zero_ablate
from claimlens.circuits.kernels.attention import attention
from claimlens.circuits.kernels.attribution import attribute, moved
from claimlens.circuits.kernels.bridge import value_head
from claimlens.circuits.kernels.copy_suppression import copy_effect
from claimlens.circuits.metrics import (
    answer_tokens,
)
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_attention(head: Head, model: Any, twin: Twin, clean: Prompts) -> None:
    places = zip(index_of(clean, "END"), index_of(clean, "IO"), strict=True)
    expected = [
        t.pattern[at(head)][dst[0], src[0]]
        for t, (dst, src) in zip(traces(twin, clean), places, strict=True)
    ]
    agree(attention(model, clean, head, "END", "IO"), expected)


def test_attention_between_labels_of_many_positions_pairs_their_slots(
    model: Any, twin: Twin, repeated: Prompts
) -> None:
    places = zip(index_of(repeated, "REPEAT"), index_of(repeated, "FIRST+1"), strict=True)
    expected = []
    for trace, (dst, src) in zip(traces(twin, repeated), places, strict=True):
        pattern = trace.pattern[at(SOME)]
        each = [pattern[d, s] for d, s in zip(dst, src, strict=True)]
        expected.append(torch.stack(each).mean())
    agree(attention(model, repeated, SOME, "REPEAT", "FIRST+1"), expected)


@pytest.mark.parametrize("head", HEADS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_direct_attribution(
    head: Head, dtype: str, tolerance: float, twin: Twin, clean: Prompts
) -> None:
    answers, wrongs = (ids.tolist() for ids in answer_tokens(clean))
    to_answer, to_wrong = [], []
    for trace, answer, wrong in zip(traces(twin, clean), answers, wrongs, strict=True):
        z = trace.z[at(head)][-1] - twin.b_v(at(head))
        written, scale = z @ twin.w_o(at(head)), trace.final_scale[-1]
        to_answer.append(twin.direct(written, scale, answer))
        to_wrong.append(twin.direct(written, scale, wrong))
    bridge = micro.bridge(dtype)
    agree(attribute(bridge, clean, head, "answer"), to_answer, tolerance)
    both = torch.stack(to_answer) - torch.stack(to_wrong)
    agree(attribute(bridge, clean, head, "logit_diff"), both, tolerance)


def test_direct_attribution_agrees_with_transformer_lens(model: Any, clean: Prompts) -> None:
    answers, wrongs = answer_tokens(clean)
    for row, tokens in enumerate(rows(clean)[:3]):
        _, stored = model.run_with_cache(tokens[None])
        written = stored.stack_head_results(apply_ln=True, pos_slice=-1)[:, 0]
        theirs = written @ (model.W_U[:, answers[row]] - model.W_U[:, wrongs[row]])
        ours = [attribute(model, clean, head, "logit_diff")[row] for head in HEADS]
        agree(torch.stack(ours), theirs.detach(), ROUNDING)


def test_patterns_agree_with_transformer_lens(model: Any, clean: Prompts) -> None:
    _, stored = model.run_with_cache(clean.tokens)
    for head in HEADS:
        dst, src = clean.at("S2")[:, 0], clean.at("S1+1")[:, 0]
        theirs = stored["pattern", head.layer][torch.arange(len(clean)), head.index, dst, src]
        agree(attention(model, clean, head, "S2", "S1+1"), theirs.detach(), ROUNDING)


def effects(twin: Twin, prompts: Prompts, head: Head, row: int, dst: int) -> Tensor:
    """Attention from `dst` to each source times the source's direct effect on its own token."""
    tokens = rows(prompts)[row]
    trace = twin.run(tokens)
    scale = trace.final_scale[dst]
    each = []
    for src in range(dst + 1):
        written = (trace.v[at(head)][src] - twin.b_v(at(head))) @ twin.w_o(at(head))
        weight = trace.pattern[at(head)][dst, src]
        each.append(weight * twin.direct(written, scale, int(tokens[src])))
    return torch.stack(each)


@pytest.mark.parametrize("head", [Head(0, 1), Head(2, 0)], ids=str)
def test_moved_is_attention_times_the_values_direct_effect(
    head: Head, model: Any, twin: Twin, clean: Prompts
) -> None:
    expected = [
        effects(twin, clean, head, row, int(clean.lengths[row]) - 1)[src]
        for row, (src,) in enumerate(index_of(clean, "IO"))
    ]
    agree(moved(model, clean, head, "END", "IO"), expected)


def test_moved_between_labels_of_many_positions_pairs_their_slots(
    model: Any, twin: Twin, repeated: Prompts
) -> None:
    one = repeated.select(torch.tensor([0]))
    places = zip(index_of(one, "REPEAT")[0], index_of(one, "FIRST+1")[0], strict=True)
    expected = [effects(twin, one, SOME, 0, dst)[src] for dst, src in places]
    agree(moved(model, one, SOME, "REPEAT", "FIRST+1"), torch.stack(expected).mean()[None])


def test_copy_effect_sums_over_all_sources_but_bos(model: Any, twin: Twin, clean: Prompts) -> None:
    found = copy_effect(model, clean)
    for head in (Head(0, 0), SOME, Head(2, 1)):
        expected = [
            effects(twin, clean, head, row, int(clean.lengths[row]) - 1)[1:].sum()
            for row in range(3)
        ]
        agree(found[:3, head.layer, head.index], expected)


def test_a_head_the_model_lacks_is_not_applicable(model: Any, clean: Prompts) -> None:
    for kernel in (
        lambda head: attention(model, clean, head, "END", "IO"),
        lambda head: attribute(model, clean, head, "answer"),
        lambda head: moved(model, clean, head, "END", "IO"),
        lambda head: zero_ablate(model, head),
        lambda head: resample_ablate(model, head, clean),
        lambda head: mean_ablate(model, head, clean),
    ):
        for missing in (Head(9, 9), Head(micro.LAYERS, 0), Head(0, micro.HEADS)):
            with pytest.raises(NotApplicable, match=f"no head {missing}: it has 3 layers of 2"):
                kernel(missing)


def test_with_grouped_heads_a_query_head_reads_the_values_of_its_group() -> None:
    cfg = SimpleNamespace(n_heads=6, n_key_value_heads=2)
    grouped: Any = SimpleNamespace(cfg=cfg, run_with_hooks=print)
    assert [value_head(grouped, Head(0, index)) for index in range(6)] == [0, 0, 0, 1, 1, 1]
    cfg.n_key_value_heads = None
    assert [value_head(grouped, Head(0, index)) for index in range(6)] == list(range(6))
