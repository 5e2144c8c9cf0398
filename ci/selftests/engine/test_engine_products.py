"""The two ways to make fewer or faster products, against those that they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests.engine import models
from claimlens.ci.selftests.engine.samples import five_prompts, many_cells, patched
from claimlens.circuits.engine import linear
from claimlens.circuits.engine.changes import Cell, Site, scale, z
from claimlens.circuits.engine.linear import ACTIVATIONS, Linear, fuses
from claimlens.circuits.engine.read import LogitDiff, Logits
from claimlens.circuits.engine.run import Run
from claimlens.circuits.engine.sweep import sweep
from claimlens.circuits.engine.wave import Wave
from claimlens.circuits.parts import Head

needs_fusion = pytest.mark.skipif(not fuses(), reason="this torch has no fused product of oneDNN")


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every fused product, all products being large enough."""
    rows, before = list[int](), Linear._fused
    monkeypatch.setattr(linear, "LARGE", 0)
    monkeypatch.setattr(linear, "ROWS", 0)

    def counted(self: Linear, x: Tensor, act: Any) -> Tensor:
        rows.append(len(x))
        return before(self, x, act)

    monkeypatch.setattr(Linear, "_fused", counted)
    return rows


@needs_fusion
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("act", [None, *ACTIVATIONS])
def test_a_fused_product_is_the_plain_one(act: str | None, biased: bool, fused: list[int]) -> None:
    x, weight, bias = torch.randn(2, 3, 5), torch.randn(5, 7), torch.randn(7)
    given = ACTIVATIONS[act] if act else None
    found = Linear(weight, bias if biased else None)(x, given)
    assert fused == [6]
    wanted = x.double() @ weight.double() + (bias.double() if biased else 0)
    wanted = given.plain(wanted) if given else wanted
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=0)


@needs_fusion
@pytest.mark.parametrize(
    ("rows", "dtype", "runs"),
    [(4, torch.float32, [4]), (3, torch.float32, []), (4, torch.float64, [])],
)
def test_only_large_float32_products_are_fused(
    rows: int,
    dtype: torch.dtype,
    runs: list[int],
    fused: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linear, "LARGE", 4 * 35)
    Linear(torch.ones(5, 7, dtype=dtype), None)(torch.ones(rows, 5, dtype=dtype))
    assert fused == runs
    monkeypatch.setattr(linear, "ROWS", 5)
    Linear(torch.ones(5, 7, dtype=dtype), None)(torch.ones(rows, 5, dtype=dtype))
    assert fused == runs


def test_a_torch_with_another_form_of_it_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_SCHEMA", "mkldnn::_linear_pointwise(Tensor X) -> Tensor Y")
    fuses.cache_clear()
    try:
        assert not fuses()
    finally:
        fuses.cache_clear()


@needs_fusion
@pytest.mark.parametrize("family", ["GPT2", "Llama", "GPTNeoX"])
def test_a_sweep_of_fused_products_is_that_of_plain_ones(
    family: str, fused: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = next(s for s in models.SHAPES if s.family == family and s.layers > 1)
    prompts = five_prompts(0)
    run, source = (models.run(shape, "float32", p) for p in (prompts, five_prompts(1)))
    assert fused
    found = sweep(run, many_cells(run, source), LogitDiff.of(prompts))
    monkeypatch.setattr(linear, "LARGE", 1 << 60)
    plain, other = (models.run(shape, "float32", p) for p in (prompts, five_prompts(1)))
    wanted = sweep(plain, many_cells(plain, other), LogitDiff.of(prompts))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


# --- one query a cell ----------------------------------------------------------------------------


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Layers whose keys and values were not made."""
    layers, before = list[int](), Wave._z_of_one

    def counted(self: Wave, layer: int, x: Tensor, places: Tensor) -> Tensor:
        layers.append(layer)
        return before(self, layer, x, places)

    monkeypatch.setattr(Wave, "_z_of_one", counted)
    return layers


def late_cells(run: Run, source: Run) -> list[Cell]:
    """Changes of an early layer, with and without one of the last layer's attention."""
    first, last = scale(z(Head(0, 0)), 0.0), run.layers - 1
    return [
        Cell.of(first),
        Cell.of(first, scale(z(Head(last, 1)), 0.5)),
        Cell.of(first, *patched(run, source, Site("q", last, 0)).changes),
        Cell.of(*patched(run, source, Site("mlp_out", 0), 2).changes),
    ]


def test_one_query_needs_no_keys(
    model: Any, run: Run, source: Run, folded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, read = late_cells(run, source), LogitDiff.of(run.prompts)
    found = sweep(run, cells, read)
    assert set(folded) == ({run.layers - 1} if run.rotary is None else set())
    monkeypatch.setattr(Wave, "_asks_once", lambda *_: False)
    torch.testing.assert_close(found, sweep(run, cells, read), atol=1e-12, rtol=0)


def test_biases_of_keys_and_values_are_not_forgotten(
    run: Run, source: Run, folded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processing folds them away, so that no model here has any."""
    if run.rotary is not None:
        pytest.skip("with rotary positions keys are made")
    *first, last = run.weights.layers
    biases = torch.randn(2, last.k.weight.shape[1], dtype=torch.float64)
    k, v = (replace(part, bias=b) for part, b in zip((last.k, last.v), biases, strict=True))
    layers = (*first, replace(last, k=k, v=v))
    biased = replace(run, weights=replace(run.weights, layers=layers))
    cells, read = late_cells(run, source), LogitDiff.of(run.prompts)
    found = sweep(biased, cells, read)
    assert folded
    assert not torch.allclose(found, sweep(run, cells, read), atol=1e-3)
    monkeypatch.setattr(Wave, "_asks_once", lambda *_: False)
    torch.testing.assert_close(found, sweep(biased, cells, read), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["k", "v", "pattern"])
def test_keys_that_are_changed_are_made(
    kind: Any, run: Run, source: Run, folded: list[int]
) -> None:
    change = patched(run, source, Site(kind, run.layers - 1, 0)).changes
    sweep(run, [Cell.of(scale(z(Head(0, 0)), 0.0), *change)], LogitDiff.of(run.prompts))
    assert not folded


def test_two_queries_need_keys(run: Run, source: Run, folded: list[int]) -> None:
    ends = run.prompts.lengths[:, None] - torch.tensor([[2, 1]])
    sweep(run, late_cells(run, source), Logits(run.prompts.tokens[:, :1], ends))
    assert not folded
