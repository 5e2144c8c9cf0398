"""Knock-outs that cannot be: each is refused, and says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from claimlens.ci.selftests.kernels.samples import HEADS
from claimlens.circuits.kernels.ablate import mean_ablate, resample_ablate
from claimlens.circuits.kernels.knockout import Node, check_kind, knockout, without
from claimlens.circuits.metrics import logit_diff, minimality_gap
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

CIRCUIT = [Head(0, 1), Head(1, 0), Head(2, 1)]


@pytest.fixture
def clean(pairs: PromptPairs) -> Prompts:
    """With templates whose prompts are of one length."""
    return by_length(pairs.clean)


@pytest.fixture
def corrupted(pairs: PromptPairs) -> Prompts:
    assert pairs.corrupted is not None
    return by_length(pairs.corrupted)


def by_length(prompts: Prompts) -> Prompts:
    return replace(prompts, templates=tuple(f"{n} tokens" for n in prompts.lengths.tolist()))


def test_what_cannot_be_is_refused(model: Any, clean: Prompts, corrupted: Prompts) -> None:
    with pytest.raises(ValueError, match="a mean knock-out needs the prompts to take z from"):
        knockout(model, clean, CIRCUIT, "mean")
    with pytest.raises(ValueError, match="kind='median': expected one of zero, mean, template"):
        check_kind("median")
    with pytest.raises(NotApplicable, match="no head L9H9"):
        knockout(model, clean, [Head(9, 9)], "zero")
    with pytest.raises(NotMeasured, match="no position 'S3'"):
        knockout(model, clean, [Node(HEADS[0], "S3")], "zero")
    with pytest.raises(NotApplicable, match=r"not in the circuit: L0H0@END; remove only"):
        without(CIRCUIT, [Node(HEADS[0], "END")])
    with pytest.raises(NotApplicable, match="not in the circuit: L0H0"):
        minimality_gap(model, clean, CIRCUIT, HEADS[0], [], "zero")
    strangers = replace(corrupted, templates=("none",) * len(corrupted))
    with pytest.raises(ValueError, match="the source has 0 prompts of it"):
        knockout(model, clean, CIRCUIT, "template mean", strangers)
    mixed = [replace(p, templates=("t",) * len(clean)) for p in (clean, corrupted)]
    with pytest.raises(ValueError, match="no mean per place"):
        knockout(model, mixed[0], CIRCUIT, "template mean", mixed[1])
    few = corrupted.select(torch.arange(3))
    with pytest.raises(NotMeasured, match="take all from the same pairs"):
        logit_diff(knockout(model, clean, CIRCUIT, "resample", few), clean)
    with pytest.raises(NotMeasured, match="changed nothing"):
        logit_diff(knockout(model, clean, CIRCUIT, "resample", clean), clean)


def test_a_source_of_other_lengths_is_refused(
    model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    """Padded alike, but row by row of another length: positions don't correspond."""
    turned = corrupted.select(torch.arange(len(corrupted)).roll(1))
    assert turned.tokens.shape == clean.tokens.shape
    row = int((turned.lengths != clean.lengths).nonzero()[0, 0])
    for ablated in (
        resample_ablate(model, CIRCUIT, turned),
        mean_ablate(model, CIRCUIT, turned),
        knockout(model, clean, CIRCUIT, "resample", turned),
    ):
        with pytest.raises(NotMeasured, match=f"row {row} of the source is .* positions don't"):
            logit_diff(ablated, clean)
    logit_diff(resample_ablate(model, CIRCUIT, corrupted), clean)
