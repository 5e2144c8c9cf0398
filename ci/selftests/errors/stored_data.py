"""Stored data that cannot be read or compared, prompts that are none, numbers that say nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from claimlens.ci.comparing import Side, pair
from claimlens.ci.selftests import micro
from claimlens.ci.selftests.errors.entry import Entry
from claimlens.ci.selftests.records import comparison, record
from claimlens.ci.selftests.report_samples import prompts as stored_prompts
from claimlens.circuits import figure_checks
from claimlens.circuits.figures import Bar, Panel
from claimlens.circuits.metrics import (
    answer_loss,
    answer_tokens,
    correlation,
    excess_over_others,
    loss,
    loss_by_position,
    margin_over_others,
    noising,
    odds_against,
)
from claimlens.circuits.parts import PromptPairs, Prompts
from claimlens.circuits.plain import check, refuse_constant
from claimlens.circuits.record import ClaimRecord, PromptsRecord, TokenScores, packed, unpacked
from claimlens.circuits.verdict import Ledger
from claimlens.fixtures.halving import in_halves
from claimlens.fixtures.measure import Measure

SCORES = torch.zeros(2, 2, 2)
FULL = MemoryError("no room")


def _pairs(
    ids: tuple[str, ...] = ("a", "b"), rows: int = 2, lengths: tuple[int, ...] = (3, 2)
) -> PromptPairs:
    made = Prompts(
        torch.arange(rows * 3).reshape(rows, 3),
        torch.tensor(lengths),
        {"FIRST": torch.zeros(rows, 1, dtype=torch.long)},
        ids,
    )
    return PromptPairs("own", ids, ids, made, None, bos=False)


def _record(**changes: Any) -> object:
    return ClaimRecord.from_json({**record().to_json(), **changes})


def _scores(scores: dict[str, Any]) -> object:
    found = TokenScores("attention", "probability", {"a": ["x", "y"]})
    data = record(token_scores=found).to_json()
    data["token_scores"]["scores"] = scores
    return ClaimRecord.from_json(data)


def _side(values: int) -> object:
    made = replace(comparison(), values=packed(np.ones(values)))
    return Side(made, stored_prompts()).of(np.arange(2))


def _text(text: str) -> PromptsRecord:
    return replace(stored_prompts(), texts=[text] * len(stored_prompts().ids))


def _no_room(on: PromptPairs) -> Tensor:
    raise FULL


def _mixed(on: PromptPairs) -> Tensor:
    if len(on) > 8:
        raise FULL
    values = on.clean.tokens[:, 0].double()
    return values - values.mean()


def _too_few(on: PromptPairs) -> Tensor:
    if len(on) > 8:
        raise FULL
    return torch.zeros(1)


def _many() -> PromptPairs:
    ids = tuple(f"p{n}" for n in range(32))
    return _pairs(ids, 32, (3,) * 32)


def _measure(*given: Any, **more: Any) -> object:
    return Measure(Ledger())(*given, unit="logits", **more)


ENTRIES = (
    Entry(lambda _: check(Bar, ["a"], "bar")),
    Entry(lambda _: _record(colour="red")),
    Entry(lambda _: check(PromptsRecord, {"digest": "x"}, "prompts")),
    Entry(lambda _: _record(seed="seven")),
    Entry(lambda _: _record(reused=[1])),
    Entry(lambda _: _record(schema=1), mend="Another version wrote it: measure again."),
    Entry(lambda _: _record(verdict="perhaps")),
    Entry(
        lambda _: PromptsRecord.from_json(
            {"digest": "x", "ids": ["a"], "templates": [], "texts": []}
        )
    ),
    Entry(lambda _: _scores({"a": [1.0]})),
    Entry(lambda _: _scores({"a": [1.0, "high"]})),
    Entry(lambda _: unpacked("§")),
    Entry(lambda _: refuse_constant("NaN")),
    Entry(lambda _: _side(3)),
    Entry(lambda _: pair(stored_prompts(), replace(stored_prompts(), ids=["other"] * 20))),
    Entry(lambda _: pair(_text("When"), _text("Then"))),
    Entry(lambda _: figure_checks.listed("IO", "x")),
    Entry(lambda _: figure_checks.listed(torch.tensor(1.0), "x")),
    Entry(lambda _: figure_checks.number("1", "x")),
    Entry(lambda _: Panel("P", ["line"])),  # type: ignore[list-item]  # what is refused
    Entry(lambda _: figure_checks.read(Bar, ["a"])),
    Entry(lambda _: figure_checks.read(Bar, {"name": "a", "value": 1.0, "colour": "red"})),
    Entry(lambda _: figure_checks.read(Bar, {"name": "a"})),
    Entry(lambda _: _pairs(("a",), 2)),
    Entry(lambda _: _pairs(("a", "a"))),
    Entry(lambda _: _pairs().without_bos()),
    Entry(lambda _: answer_tokens(_pairs().clean)),
    Entry(lambda _: answer_loss(micro.bridge(), _pairs().clean)),
    Entry(lambda _: odds_against(micro.bridge(), _pairs().clean)),
    Entry(lambda _: loss(micro.bridge(), _pairs().clean, at="FIRST")),
    Entry(lambda _: loss_by_position(micro.bridge(), _pairs().clean)),
    Entry(lambda _: noising(torch.zeros(2), torch.ones(2), torch.ones(2))),
    Entry(lambda _: margin_over_others(SCORES, [])),
    Entry(lambda _: excess_over_others(SCORES, [])),
    Entry(lambda _: correlation(torch.ones(2, 3), torch.ones(2, 3))),
    Entry(lambda _: in_halves(_no_room, _many(), 1e-9)),
    Entry(lambda _: in_halves(_mixed, _many(), 1e-9)),
    Entry(lambda _: in_halves(_too_few, _many(), 1e-9)),
    Entry(lambda _: _measure([1.0, 2.0])),
)
