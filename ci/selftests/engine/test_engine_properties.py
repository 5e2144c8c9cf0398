"""The engine against hooks: random interventions on random models of three families.

Each example is a sweep: its cells go through the engine together, and through `twin_sweep` one by
one, in float64. Both must agree on every number, and on whether a change changed anything.
"""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from claimlens.ci.selftests.engine import twin_sweep
from claimlens.ci.selftests.engine.cases import (
    Case,
    Reading,
    as_noop,
    cases,
    ground,
    in_float32,
    intact,
)
from claimlens.ci.selftests.engine.models import SHAPES, Family, Shape
from claimlens.circuits.engine.changes import KINDS, OF_HEADS, Cell, Site, scale
from claimlens.circuits.engine.read import LogitDiff
from claimlens.circuits.engine.sweep import sweep
from claimlens.circuits.verdict import NotMeasured

FAMILIES: tuple[Family, ...] = get_args(Family)
READINGS: tuple[Reading, ...] = get_args(Reading)
DOUBLE, SINGLE = 440, 230
"""Examples of each family in float64 and in float32: 2,010 in all."""
EXACT, CLOSE = 1e-9, 1e-4


def examples(number: int) -> settings:
    # a model is booted in the first example that needs it: no example is slow by itself
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=number, derandomize=True, deadline=None, suppress_health_check=slow
    )


def both(case: Case) -> tuple[Tensor, Tensor] | None:
    """The engine's values and the twin's; None where a change changed nothing."""
    run = intact(case.shape, case.prompts, "float64")
    try:
        wanted = twin_sweep.swept(case.ground.bridge, case.ground.prompts, case.cells, case.read)
    except twin_sweep.Unchanged as unchanged:
        if unchanged.first:
            with pytest.raises(NotMeasured, match="left it as it was"):
                sweep(run, case.cells, case.read)
        return None
    return sweep(run, case.cells, case.read), wanted


@pytest.mark.parametrize("family", FAMILIES)
def test_the_engine_does_what_hooks_do(family: Family) -> None:
    @examples(DOUBLE)
    @given(cases(family, *READINGS))
    def agree(case: Case) -> None:
        if found := both(case):
            torch.testing.assert_close(*found, atol=EXACT, rtol=0)

    agree()


@pytest.mark.parametrize("family", FAMILIES)
def test_in_float32_logit_differences_are_those_of_float64(family: Family) -> None:
    @examples(SINGLE)
    @given(cases(family, "logit_diff"))
    def agree(case: Case) -> None:
        run, cells = intact(case.shape, case.prompts, "float32"), [*map(as_noop, case.cells)]
        wanted = twin_sweep.swept(case.ground.bridge, case.ground.prompts, cells, case.read)
        found = sweep(run, [in_float32(cell) for cell in cells], case.read)
        torch.testing.assert_close(found.double(), wanted, atol=CLOSE, rtol=0)

    agree()


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.layers == 2], ids=lambda s: s.family)
def test_every_pair_of_sites_at_one_position(shape: Shape) -> None:
    """What is rare at random: a second change where a first one left a single row."""
    here, run = ground(shape, 1), intact(shape, 1, "float64")
    start = torch.zeros(len(here.prompts), 1, dtype=torch.long)
    sites = [Site(kind, n, 0 if kind in OF_HEADS else None) for n in (0, 1) for kind in KINDS]
    cells = [
        Cell.of(*(scale(site, 0.5, start, noop=True) for site in pair))
        for pair in itertools.combinations(sites, 2)
    ]
    read = LogitDiff.of(here.prompts)
    wanted = twin_sweep.swept(here.bridge, here.prompts, cells, read)
    torch.testing.assert_close(sweep(run, cells, read), wanted, atol=EXACT, rtol=0)
