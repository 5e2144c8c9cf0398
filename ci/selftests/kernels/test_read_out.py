"""Logits are read out of the last residual stream, where a run stops; what is kept of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import ROUNDING, SOME, agree
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.cache import Edit, cache, edited
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotMeasured


def test_logits_are_those_of_the_whole_forward(model: Any, clean: Prompts) -> None:
    run, whole = cache(model, clean), model(clean.tokens)
    assert torch.equal(run.logits, whole)
    end = clean.at("END")
    rows = torch.arange(len(clean))
    agree(run.logits_at(end)[:, 0], whole[rows, end[:, 0]], ROUNDING)
    parts = {r.start: logits for r, logits in run.by_rows(end, 2**23)}  # two prompts at a time
    assert list(parts) == list(range(0, len(clean), 2))
    agree(torch.cat(list(parts.values()))[:, 0], whole[rows, end[:, 0]], ROUNDING)


def test_what_is_kept_of_a_run_has_no_logits(model: Any, clean: Prompts) -> None:
    memory = Memory()
    with remembering(memory):
        logit_diff(model, clean)
    streams = 1 + micro.LAYERS  # the last one, and what each layer reads
    assert memory.bytes == streams * clean.tokens.numel() * micro.WIDTH * 8


def test_an_edit_behind_the_unembedding_is_an_error(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotMeasured, match=r"unembed\.hook_out lies behind the unembedding"):
        logit_diff(edited(model, Edit("unembed.hook_out", torch.zeros_like, "silence")), clean)
    with pytest.raises(NotMeasured, match=r"unembed\.hook_out lies behind"):
        cache(model, clean, ["unembed.hook_out"])


def test_nothing_is_left_behind_by_a_run_that_stops_early(model: Any, clean: Prompts) -> None:
    before = model(clean.tokens)
    cache(zero_ablate(model, SOME), clean)
    assert torch.equal(model(clean.tokens), before)
    assert not any(point.fwd_hooks for point in model.hook_dict.values())


def test_edited_runs_pass_and_intact_ones_stay(model: Any, clean: Prompts) -> None:
    memory = Memory()
    with remembering(memory):
        logit_diff(model, clean)
        intact = memory.bytes
        logit_diff(zero_ablate(model, SOME), clean)
        assert memory.bytes > intact
        memory.settle()
    assert memory.bytes == intact
