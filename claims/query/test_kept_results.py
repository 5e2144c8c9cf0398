"""Sweeps kept on disk: what is read back is what would be measured."""

from dataclasses import replace

import pytest
import torch

from claimlens.circuits import answer_direction, sweep
from claimlens.circuits.parts import Head

ASKED = (
    ((-1.0, 1.0), "free"),
    ((-1.0, 1.0), "free"),
    ((-2.0, 2.0), "free"),
    ((-1.0, 1.0), "frozen"),
)
"""Scales and LayerNorm of each sweep; the second is the first again."""


@pytest.mark.claim(
    "results/kept-is-measured",
    kind="identity",
    source="seed 000, results_storage: kept under a name that leaves out the scales, the prompts, "
    "the ablations and where the LayerNorm is",
)
def test_a_kept_sweep_is_the_measured_one(model, ioi, results, tmp_path, measure):
    """A sweep that is asked for again comes from the folder, exactly as it was measured; with
    other scales, or with the LayerNorm's scale frozen, it is measured anew."""
    few, head = ioi.select(range(4)).clean, Head(model.cfg.n_layers - 1, 0)
    vector = answer_direction(model, few)
    kept = replace(results, folder=tmp_path / "results", log=[])
    gaps = []
    for scales, norm in ASKED:
        asked = (model, few, [head], vector, scales)
        fresh = sweep(*asked, norm=norm)
        found = kept.measure(sweep, *asked, norm=norm)
        gaps += [(found[name] - fresh[name]).abs().max() for name in fresh]
    known = [lookup.from_cache for lookup in kept.log]
    wrong = sum(k != e for k, e in zip(known, (False, True, False, False), strict=True))
    assert measure(float(wrong), unit="sweeps") <= 0
    assert measure(torch.stack(gaps).max(), unit="logits") <= 0
