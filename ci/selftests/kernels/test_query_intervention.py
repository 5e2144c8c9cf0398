"""Query and key interventions: against the twin, at the endpoints, and what they leave alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import (
    ROUNDING,
    TOLERANCES,
    agree,
    at,
    index_of,
    rows,
)
from claimlens.ci.selftests.twin import Change, Place, Twin
from claimlens.ci.selftests.twin_query import Injected, QueryTrace, run, scale_of
from claimlens.circuits.kernels.ablate import resample_ablate, zero_ablate
from claimlens.circuits.kernels.attention import attention_score
from claimlens.circuits.kernels.cache import cache
from claimlens.circuits.kernels.directions import head_output, split, token_directions
from claimlens.circuits.kernels.query_intervention import (
    Into,
    Norm,
    inject,
)
from claimlens.circuits.metrics import answer_tokens, logit_diff
from claimlens.circuits.parts import Head, Prompts

FIRST, LAST = Head(0, 1), Head(2, 0)
PLACES: dict[Into, str] = {"query": "END", "key": "IO"}
INTO: tuple[Into, ...] = ("query", "key")
NORMS: tuple[Norm, ...] = ("free", "frozen", "after")
WAYS = list(itertools.product(INTO, NORMS))


def vectors(clean: Prompts, seed: int = 0) -> Tensor:
    """A vector per prompt, about as long as the stream."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(clean), micro.WIDTH, generator=generator, dtype=torch.float64)


def twin_runs(
    twin: Twin,
    clean: Prompts,
    head: Head,
    vector: Tensor,
    into: Into,
    norm: Norm,
    changes: Callable[[int], dict[Place, Change]] | None = None,
) -> list[QueryTrace]:
    """Every prompt with the vector in the head's query at END, or in its key at IO."""
    found = []
    for row, tokens in enumerate(rows(clean)):
        position = index_of(clean, PLACES[into])[row][0]
        unedited = run(twin, tokens).stream[head.layer][position]
        injected = Injected(
            at(head), into[0], position, vector[row], norm, float(scale_of(twin, unedited))
        )
        found.append(run(twin, tokens, injected, None if changes is None else changes(row)))
    return found


def diffs(traces: list[QueryTrace], clean: Prompts) -> list[Tensor]:
    answers, wrongs = answer_tokens(clean)
    return [t.logits[-1, answers[row]] - t.logits[-1, wrongs[row]] for row, t in enumerate(traces)]


def end_to_io(traces: list[QueryTrace], clean: Prompts, head: Head) -> list[Tensor]:
    places = index_of(clean, "IO")
    return [t.scores[at(head)][-1, src] for t, (src,) in zip(traces, places, strict=True)]


# --- against the twin -----------------------------------------------------------------------------


@pytest.mark.parametrize(("into", "norm"), WAYS)
@pytest.mark.parametrize("head", [FIRST, Head(1, 1), LAST], ids=str)
def test_an_injection(
    head: Head, into: Into, norm: Norm, model: Any, twin: Twin, clean: Prompts
) -> None:
    vector = vectors(clean)
    changed = inject(model, clean, head, vector, 1.5, into=into, at=PLACES[into], norm=norm)
    expected = twin_runs(twin, clean, head, 1.5 * vector, into, norm)
    agree(attention_score(changed, clean, head, "END", "IO"), end_to_io(expected, clean, head))
    agree(logit_diff(changed, clean), diffs(expected, clean))


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_an_injection_in_either_dtype(
    dtype: str, tolerance: float, twin: Twin, clean: Prompts
) -> None:
    bridge, vector = micro.bridge(dtype), vectors(clean)
    changed = inject(bridge, clean, LAST, vector.to(getattr(torch, dtype)), -2.0)
    expected = twin_runs(twin, clean, LAST, -2.0 * vector, "query", "free")
    agree(logit_diff(changed, clean), diffs(expected, clean), tolerance)


@pytest.mark.parametrize(("into", "norm"), WAYS)
def test_an_injection_beside_an_ablation_reads_the_ablated_stream(
    into: Into, norm: Norm, model: Any, twin: Twin, clean: Prompts, corrupted: Prompts
) -> None:
    """The scale that is frozen is that of the unedited run; all else is of the run under way."""
    vector, others = vectors(clean), [run(twin, tokens) for tokens in rows(corrupted)]
    theirs = [z_of(twin, trace, at(FIRST)) for trace in others]

    def changes(row: int) -> dict[Place, Change]:
        return {at(FIRST): lambda z: theirs[row]}

    expected = twin_runs(twin, clean, LAST, vector, into, norm, changes)
    ablated = resample_ablate(model, FIRST, corrupted)
    changed = inject(ablated, clean, LAST, vector, into=into, at=PLACES[into], norm=norm)
    agree(attention_score(changed, clean, LAST, "END", "IO"), end_to_io(expected, clean, LAST))
    agree(logit_diff(changed, clean), diffs(expected, clean))


def z_of(twin: Twin, trace: QueryTrace, place: Place) -> Tensor:
    from claimlens.ci.selftests.twin_query import normed, projected

    values = projected(twin, normed(twin, trace.stream[place[0]], place[0]), place, "v")
    return trace.scores[place].softmax(1) @ values


def test_the_order_of_injection_and_zero_ablation_does_not_matter(
    model: Any, clean: Prompts
) -> None:
    vector = vectors(clean)
    one = inject(zero_ablate(model, FIRST), clean, LAST, vector)
    other = zero_ablate(inject(model, clean, LAST, vector), FIRST)
    assert torch.equal(logit_diff(one, clean), logit_diff(other, clean))


# --- endpoints ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("into", "norm"), WAYS)
def test_scale_zero_is_the_clean_run_exactly(
    into: Into, norm: Norm, model: Any, clean: Prompts
) -> None:
    same = inject(model, clean, LAST, vectors(clean), 0.0, into=into, at=PLACES[into], norm=norm)
    assert torch.equal(cache(same, clean).logits, cache(model, clean).logits)


def test_scale_zero_beside_an_ablation_is_the_ablated_run_exactly(
    model: Any, clean: Prompts
) -> None:
    ablated = zero_ablate(model, FIRST)
    same = inject(ablated, clean, LAST, vectors(clean), 0.0)
    assert torch.equal(cache(same, clean).logits, cache(ablated, clean).logits)


@pytest.mark.parametrize("into", INTO)
@pytest.mark.parametrize("head", [Head(1, 0), LAST], ids=str)
def test_injecting_what_the_other_run_has_more_gives_the_other_runs_query_or_key(
    head: Head, into: Into, model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    stream, hook = f"blocks.{head.layer}.hook_resid_pre", f"blocks.{head.layer}.attn.hook_{into[0]}"
    each = torch.arange(len(clean))
    places = clean.at(PLACES[into])[:, 0], corrupted.at(PLACES[into])[:, 0]
    own, theirs = cache(model, clean, [stream]), cache(model, corrupted, [stream, hook])
    gap = theirs[stream][each, places[1]] - own[stream][each, places[0]]
    changed = cache(inject(model, clean, head, gap, into=into, at=PLACES[into]), clean, [hook])
    agree(
        changed[hook][each, places[0], head.index],
        theirs[hook][each, places[1], head.index],
        ROUNDING,
    )


@pytest.mark.parametrize(("into", "norm"), WAYS)
def test_only_this_head_changes_and_only_there(
    into: Into, norm: Norm, model: Any, clean: Prompts
) -> None:
    hooks = [f"blocks.{LAST.layer}.attn.hook_{which}" for which in "qkv"]
    changed = inject(model, clean, LAST, vectors(clean), into=into, at=PLACES[into], norm=norm)
    before, after = cache(model, clean, hooks), cache(changed, clean, hooks)
    for hook in hooks:
        moved = (before[hook] != after[hook]).any(-1)
        expected = torch.zeros_like(moved)
        if hook.endswith(into[0]):
            expected[torch.arange(len(clean)), clean.at(PLACES[into])[:, 0], LAST.index] = True
        assert torch.equal(moved, expected)


def test_a_label_of_many_positions_takes_the_vector_at_each(model: Any, repeated: Prompts) -> None:
    changed = inject(model, repeated, LAST, vectors(repeated), at="REPEAT")
    hook = f"blocks.{LAST.layer}.attn.hook_q"
    moved = (cache(model, repeated, [hook])[hook] != cache(changed, repeated, [hook])[hook]).any(-1)
    assert torch.equal(moved[:, :, LAST.index].nonzero()[:, 1], repeated.at("REPEAT").flatten())


def test_the_output_of_a_later_head_can_be_injected_into_an_earlier_one(
    model: Any, clean: Prompts
) -> None:
    changed = inject(model, clean, FIRST, head_output(model, clean, LAST), 4.0)
    gap = (logit_diff(changed, clean) - logit_diff(model, clean)).abs()
    assert bool((gap > 1e-4).all())


@pytest.mark.parametrize("norm", ["frozen", "after"])
def test_with_the_scale_fixed_the_effects_of_parts_on_the_scores_add_up(
    norm: Norm, model: Any, clean: Prompts
) -> None:
    whole = head_output(model, clean, FIRST)
    along, rest = split(whole, token_directions(model, answer_tokens(clean)[0]))
    clean_score = attention_score(model, clean, LAST, "END", "IO")
    effects = [
        attention_score(inject(model, clean, LAST, v, 3.0, norm=norm), clean, LAST, "END", "IO")
        - clean_score
        for v in (whole, along, rest)
    ]
    agree(effects[1] + effects[2], effects[0], ROUNDING)
    assert float(effects[0].abs().min()) > 1e-6
