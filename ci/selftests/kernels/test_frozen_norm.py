"""The normalisation of a whole layer at the clean run's scale: alone, with ablations, injected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures, micro
from claimlens.ci.selftests.kernels.samples import ROUNDING, agree, at, index_of, rows
from claimlens.ci.selftests.kernels.test_query_intervention import (
    INTO,
    PLACES,
    diffs,
    end_to_io,
    vectors,
    z_of,
)
from claimlens.ci.selftests.twin import Change, Place, Twin
from claimlens.ci.selftests.twin_query import Injected, QueryTrace, run, scale_of
from claimlens.circuits.kernels.ablate import resample_ablate, zero_ablate
from claimlens.circuits.kernels.attention import attention_score
from claimlens.circuits.kernels.bridge import norm_parts
from claimlens.circuits.kernels.cache import cache
from claimlens.circuits.kernels.frozen_norm import freeze_norm
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.kernels.query_intervention import Into, Norm, inject
from claimlens.circuits.kernels.query_sweep import sweep
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

FIRST, LAST = Head(0, 1), Head(2, 0)
BEFORE: tuple[Norm, ...] = ("free", "frozen")


def resampled(twin: Twin, corrupted: Prompts) -> list[dict[Place, Change]]:
    """L0H1's z of the corrupted run, prompt by prompt."""
    theirs = [z_of(twin, run(twin, tokens), at(FIRST)) for tokens in rows(corrupted)]

    def put(z: Tensor) -> Change:
        return lambda _: z

    return [{at(FIRST): put(z)} for z in theirs]


def frozen_runs(
    twin: Twin,
    clean: Prompts,
    changes: list[dict[Place, Change]],
    injected: list[Injected] | None = None,
    layer: int = LAST.layer,
) -> list[QueryTrace]:
    """Every prompt with the LayerNorm of `layer` at the scale of the unedited run."""
    found = []
    for row, tokens in enumerate(rows(clean)):
        scales = {layer: scale_of(twin, run(twin, tokens).stream[layer])}
        vector = None if injected is None else injected[row]
        found.append(run(twin, tokens, vector, changes[row], scales))
    return found


def injections(twin: Twin, clean: Prompts, vector: Tensor, into: Into, norm: str) -> list[Injected]:
    """The vector in L2H0's query at END or key at IO, over the clean scale."""
    found = []
    for row, tokens in enumerate(rows(clean)):
        position = index_of(clean, PLACES[into])[row][0]
        scale = float(scale_of(twin, run(twin, tokens).stream[LAST.layer][position]))
        found.append(Injected(at(LAST), into[0], position, vector[row], norm, scale, held=True))
    return found


# --- against the twin -----------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [1, 2])
def test_a_frozen_layer_with_a_head_ablated(
    layer: int, model: Any, twin: Twin, clean: Prompts, corrupted: Prompts
) -> None:
    expected = frozen_runs(twin, clean, resampled(twin, corrupted), layer=layer)
    ablated = resample_ablate(model, FIRST, corrupted)
    found = freeze_norm(ablated, clean, layer)
    agree(logit_diff(found, clean), diffs(expected, clean))
    for head in (Head(layer, index) for index in range(micro.HEADS)):  # not one alone
        agree(attention_score(found, clean, head, "END", "IO"), end_to_io(expected, clean, head))
    gap = logit_diff(found, clean) - logit_diff(ablated, clean)
    assert float(gap.abs().min()) > 1e-5  # the edit has an effect, in every prompt


@pytest.mark.parametrize("into", INTO)
@pytest.mark.parametrize("norm", ["free", "frozen", "after"])
def test_an_injection_into_a_frozen_layer_beside_an_ablation(
    into: Into, norm: Norm, model: Any, twin: Twin, clean: Prompts, corrupted: Prompts
) -> None:
    """Seed 000's `freeze_layernorm` with `ablate_heads`, with `pre_ln` and without."""
    vector, changes = vectors(clean), resampled(twin, corrupted)
    way = "after" if norm == "after" else "frozen"
    expected = frozen_runs(twin, clean, changes, injections(twin, clean, vector, into, way))
    frozen = freeze_norm(resample_ablate(model, FIRST, corrupted), clean, LAST.layer)
    found = inject(frozen, clean, LAST, vector, into=into, at=PLACES[into], norm=norm)
    agree(attention_score(found, clean, LAST, "END", "IO"), end_to_io(expected, clean, LAST))
    agree(logit_diff(found, clean), diffs(expected, clean))


def test_the_order_of_freezing_and_ablating_does_not_matter(model: Any, clean: Prompts) -> None:
    one = freeze_norm(zero_ablate(model, FIRST), clean, LAST.layer)
    other = zero_ablate(freeze_norm(model, clean, LAST.layer), FIRST)
    assert torch.equal(logit_diff(one, clean), logit_diff(other, clean))


def test_freezing_the_layer_is_more_than_freezing_one_reading(model: Any, clean: Prompts) -> None:
    ablated, vector = zero_ablate(model, FIRST), vectors(clean)
    layer = inject(freeze_norm(ablated, clean, LAST.layer), clean, LAST, vector, norm="frozen")
    reading = inject(ablated, clean, LAST, vector, norm="frozen")
    hook = f"blocks.{LAST.layer}.attn.hook_q"
    q = [cache(m, clean, [hook])[hook] for m in (layer, reading)]
    each, end = torch.arange(len(clean)), clean.at("END")[:, 0]
    agree(q[0][each, end, LAST.index], q[1][each, end, LAST.index], ROUNDING)
    assert bool((q[0][:, :, 1] - q[1][:, :, 1]).abs().amax((1, 2)).min() > 1e-6)


# --- endpoints ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["micro", *architectures.NAMES])
def test_without_other_edits_it_is_the_clean_run_exactly(name: str, clean: Prompts) -> None:
    model = micro.bridge("float64") if name == "micro" else architectures.bridge(name)
    for layer in range(int(model.cfg.n_layers)):
        same = freeze_norm(model, clean, layer)
        assert torch.equal(cache(same, clean).logits, cache(model, clean).logits)


@pytest.mark.parametrize("name", architectures.NAMES)
def test_with_heads_ablated_it_divides_by_the_clean_scale(name: str, clean: Prompts) -> None:
    model = architectures.bridge(name)
    hooks = [f"blocks.1.ln1.hook_{place}" for place in ("in", "out")]
    ablated = zero_ablate(model, [Head(0, 0), Head(0, 1)])
    frozen = freeze_norm(ablated, clean, 1)
    plain, run = cache(model, clean, hooks), cache(frozen, clean, hooks)
    clean_scale = norm_parts(model, 1, plain[hooks[0]])[1]
    agree(run[hooks[1]], norm_parts(model, 1, run[hooks[0]])[0] / clean_scale, 2e-5)
    assert bool((logit_diff(frozen, clean) != logit_diff(ablated, clean)).all())


@pytest.mark.parametrize("norm", ["free", "frozen", "after"])
def test_scale_zero_is_the_frozen_run_exactly(norm: Norm, model: Any, clean: Prompts) -> None:
    frozen = freeze_norm(zero_ablate(model, FIRST), clean, LAST.layer)
    same = inject(frozen, clean, LAST, vectors(clean), 0.0, norm=norm)
    assert torch.equal(cache(same, clean).logits, cache(frozen, clean).logits)


def test_a_sweep_runs_in_a_frozen_layer(model: Any, clean: Prompts) -> None:
    frozen, vector = freeze_norm(zero_ablate(model, FIRST), clean, LAST.layer), vectors(clean)
    (found,) = sweep(frozen, clean, [LAST], vector, [-1.0, 0.0, 2.0]).values()
    agree(found[0, 1], logit_diff(frozen, clean), ROUNDING)
    agree(found[0, 2], logit_diff(inject(frozen, clean, LAST, vector, 2.0), clean), ROUNDING)


# --- one reading frozen, beside an ablation -------------------------------------------------------


def test_scale_zero_over_the_clean_scale_is_not_the_ablated_run(model: Any, clean: Prompts) -> None:
    ablated = zero_ablate(model, FIRST)
    still = inject(ablated, clean, LAST, vectors(clean), 0.0, norm="frozen")
    assert not still.edits[-1].noop
    gap = logit_diff(still, clean) - logit_diff(ablated, clean)
    assert float(gap.abs().max()) > 1e-6


def test_scale_zero_is_a_no_op_where_both_scales_are_the_same(model: Any, clean: Prompts) -> None:
    """A head of the same layer is ablated: the input is the clean one."""
    ablated = zero_ablate(model, Head(LAST.layer, 1))
    still = inject(ablated, clean, LAST, vectors(clean), 0.0, norm="frozen")
    assert torch.equal(cache(still, clean).logits, cache(ablated, clean).logits)


# --- remembering, and what is refused ------------------------------------------------------------


def test_a_memory_tells_frozen_layers_apart(model: Any, clean: Prompts) -> None:
    ablated = zero_ablate(model, FIRST)
    models = [ablated, *(freeze_norm(ablated, clean, layer) for layer in (1, 2))]
    plain = [logit_diff(m, clean) for m in models]
    with remembering(Memory()):
        for expected, one in [*zip(plain, models, strict=True)] * 2:
            assert torch.equal(logit_diff(one, clean), expected)
    assert len({tuple(found.tolist()) for found in plain}) == 3


@pytest.fixture
def split_inputs() -> Iterator[Any]:
    model = micro.bridge("float64")
    yield model
    model.set_use_split_qkv_input(False)


def test_split_inputs_are_refused(split_inputs: Any, clean: Prompts) -> None:
    """There an edit of the layer's norm has no effect at all and no error."""
    frozen = freeze_norm(zero_ablate(split_inputs, FIRST), clean, LAST.layer)
    split_inputs.set_use_split_qkv_input(True)
    with pytest.raises(NotMeasured, match="inputs are split, where it has no effect"):
        logit_diff(frozen, clean)


def test_what_cannot_be_frozen_is_refused(model: Any, clean: Prompts) -> None:
    for layer in (-1, 3):
        with pytest.raises(NotApplicable, match=f"no layer {layer}: it has 3"):
            freeze_norm(model, clean, layer)
    with pytest.raises(ValueError, match="layer 2 were injected into; freeze first, then inject"):
        freeze_norm(inject(model, clean, LAST, vectors(clean)), clean, 2)
    freeze_norm(inject(model, clean, LAST, vectors(clean)), clean, 1)
    with pytest.raises(NotMeasured, match="run it on the prompts it was made for"):
        logit_diff(freeze_norm(model, clean, 2), clean.select(torch.arange(5)))
