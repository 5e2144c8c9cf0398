"""The figure of a query intervention: every line is a sweep's mean, and bad grids cost no run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.circuits.kernels import query_grid as figure
from claimlens.circuits.kernels.query_grid import LOGIT_DIFF, query_grid
from claimlens.circuits.kernels.query_sweep import attention_readouts, sweep
from claimlens.circuits.parts import Head, Prompts

HEADS = [Head(0, 1), Head(2, 0)]
SCALES = (-1.0, 0.0, 2.5)


def vectors(clean: Prompts) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (2, len(clean), micro.WIDTH)
    one, other = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return {"one": one, "other": other}


@pytest.mark.parametrize("terms", [None, ("IO", "IO-S1")], ids=["logit difference", "attention"])
def test_each_line_is_the_mean_of_a_sweep(
    terms: tuple[str, ...] | None, model: Any, clean: Prompts
) -> None:
    given = None if terms is None else attention_readouts(terms, of="score")
    label = None if terms is None else "attention score"
    way: dict[str, Any] = {"into": "key", "at": "IO", "norm": "after"}
    parts = vectors(clean)
    found = query_grid(model, clean, HEADS, parts, SCALES, "t", given, label, **way)
    assert (found.y_label, found.x) == (label or LOGIT_DIFF, SCALES)
    assert len(found.rows) == len(parts)
    for row, (name, vector) in zip(found.rows, parts.items(), strict=True):
        expected = sweep(model, clean, HEADS, vector, SCALES, given, **way)
        assert [panel.title for panel in row] == [f"{name}: {of}" for of in expected]
        for panel, values in zip(row, expected.values(), strict=True):
            assert [line.name for line in panel.lines] == [str(head) for head in HEADS]
            for line, of_head in zip(panel.lines, values, strict=True):
                assert list(line.y) == of_head.mean(-1).tolist()
    lines = {tuple(line.y) for row in found.rows for panel in row for line in panel.lines}
    assert len(lines) == len(parts) * len(found.rows[0]) * len(HEADS)  # no two of them are alike


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scales": (0.0, -1.0, 2.0)}, r"scales \[0.0, -1.0, 2.0\] do not rise; sort them"),
        ({"scales": (-1.0, 1.0, 1.0)}, "do not rise"),
        ({"scales": (-1.0, float("nan"), 1.0)}, "do not rise"),
        ({"vectors": {}}, "no vectors given"),
        ({"readouts": {}}, "no readouts given; leave them out for the logit difference"),
        ({"readouts": attention_readouts(["IO"])}, "readouts IO need a y_label"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_any_run(
    change: dict[str, Any],
    told: str,
    model: Any,
    clean: Prompts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ran(*_: Any, **__: Any) -> Any:
        raise AssertionError("a sweep was run")

    monkeypatch.setattr(figure, "sweep", ran)
    given: dict[str, Any] = {"vectors": vectors(clean), "scales": SCALES, "title": "t", **change}
    with pytest.raises(ValueError, match=told):
        query_grid(model, clean, HEADS, **given)
