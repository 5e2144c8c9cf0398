"""Ablations, patches, paths and injections that cannot be made or change nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.errors.entry import Entry
from claimlens.ci.selftests.errors.subjects import (
    FIRST,
    LAST,
    NOWHERE,
    SOME,
    changed,
    clean,
    corrupted,
    few,
    gemma,
    llama,
    turned,
    unchecked,
    vectors,
)
from claimlens.circuits.kernels.ablate import mean_ablate, resample_ablate, zero_ablate, zero_values
from claimlens.circuits.kernels.attribution_patching import attribution_patching, screened
from claimlens.circuits.kernels.bridge import check_head
from claimlens.circuits.kernels.cache import Edit, cache, differentiable, edited
from claimlens.circuits.kernels.direct_paths import direct_paths
from claimlens.circuits.kernels.edge_attribution import edge_attribution
from claimlens.circuits.kernels.frozen_norm import freeze_norm
from claimlens.circuits.kernels.hooked import in_force, matching, run_module
from claimlens.circuits.kernels.incompleteness import incomplete_subset
from claimlens.circuits.kernels.knockout import check_kind, knockout, without
from claimlens.circuits.kernels.patch import (
    Patching,
    first_difference,
    patch,
    patch_residual,
)
from claimlens.circuits.kernels.path_patch import path_effect, path_patch
from claimlens.circuits.kernels.path_sweep import path_effects
from claimlens.circuits.kernels.query_grid import query_grid
from claimlens.circuits.kernels.query_intervention import inject
from claimlens.circuits.kernels.query_sweep import attention_readouts, sweep
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Head, Position, Prompts

_CIRCUIT = [Head(0, 1), Head(1, 0), Head(2, 1)]
_STREAM = "blocks.1.hook_resid_pre"
_Z = "blocks.1.attn.hook_z"
_LEVEL = Patching(torch.ones(2, 1, 1), torch.tensor([5.0, -5.1]), (0,), ("END",), 3)


def _zeros(hook: str, at: Position | None = None) -> Edit:
    return Edit(hook, torch.zeros_like, f"zero ablation of {hook}", at=at)


def _with(change: Callable[[Any], Any], what: str, hook: str = _STREAM) -> object:
    return logit_diff(edited(micro.bridge(), Edit(hook, change, what)), clean())


def _on(model: Any, prompts: Prompts) -> object:
    return logit_diff(model, prompts)


def _nothing_ran() -> None:
    with in_force(micro.bridge(), _zeros(_Z)):
        pass


def _frozen_weights() -> object:
    model = changed(lambda raw: None)
    for weight in model.parameters():
        weight.requires_grad_(False)
    return differentiable(model, clean(), [_STREAM])


def _split_inputs() -> object:
    model = changed(lambda raw: None)
    frozen = freeze_norm(zero_ablate(model, FIRST), clean(), LAST.layer)
    model.set_use_split_qkv_input(True)
    return logit_diff(frozen, clean())


def _of_template(prompts: Prompts, name: str) -> Prompts:
    return replace(prompts, templates=(name,) * len(prompts))


def _half_alike() -> object:
    tokens = torch.cat([clean().tokens[:3], corrupted().tokens[3:]])
    return first_difference(clean(), replace(corrupted(), tokens=tokens))


def _sent_alike() -> object:
    same = replace(clean(), tokens=clean().tokens.clone())
    return direct_paths(micro.bridge(), clean(), same, FIRST)


def _grid(**given: Any) -> object:
    asked: dict[str, Any] = {"vectors": {"one": vectors()}, "scales": (0.0, 1.0), "title": "t"}
    return query_grid(micro.bridge(), clean(), [LAST], **{**asked, **given})


def _inject(**given: Any) -> Any:
    asked: dict[str, Any] = {"vector": vectors(), **given}
    return inject(micro.bridge(), clean(), LAST, **asked)


def _knocked(kind: Any, source: Prompts | None, prompts: Prompts | None = None) -> Any:
    return knockout(micro.bridge(), prompts or clean(), _CIRCUIT, kind, source)


def _patched(hook: str, source: Prompts, at: str | None = None) -> object:
    return logit_diff(patch(micro.bridge(), hook, source, at), corrupted())


ENTRIES = (
    Entry(lambda _: unchecked(check_head)(micro.bridge(), "2.0")),
    Entry(lambda _: zero_ablate(micro.bridge(), NOWHERE)),
    Entry(lambda _: _on(resample_ablate(micro.bridge(), SOME, few()), clean())),
    Entry(lambda _: _on(resample_ablate(micro.bridge(), SOME, turned()), clean())),
    Entry(
        lambda _: mean_ablate(micro.bridge(), SOME, _of_template(clean(), "t")),
        mend="Give each length a template of its own.",
    ),
    Entry(lambda _: zero_values(llama(), Head(0, 0))),
    Entry(lambda _: cache(micro.bridge(), clean(), ["blocks.1.attn.hook_zz"])),
    Entry(lambda _: _with(torch.zeros_like, "zero", hook="unembed.hook_out")),
    Entry(lambda _: _nothing_ran(), mend="Call the module inside the block."),
    Entry(lambda _: _with(lambda x: x[:1], "a cut")),
    Entry(lambda _: _with(torch.clone, "a copy")),
    Entry(lambda _: _with(lambda x: x * torch.nan, "no number")),
    Entry(
        lambda _: run_module(micro.bridge(), clean().tokens, edits=[_zeros(_Z, Position("END"))])
    ),
    Entry(lambda _: matching(micro.bridge(), "*.hook_nothing")),
    Entry(lambda _: _frozen_weights()),
    Entry(lambda _: check_kind("median")),
    Entry(lambda _: without(_CIRCUIT, [FIRST, NOWHERE])),
    Entry(lambda _: _knocked("mean", None)),
    Entry(lambda _: _knocked("template mean", _of_template(corrupted(), "none"))),
    Entry(lambda _: _on(_knocked("resample", few()), clean())),
    Entry(lambda _: incomplete_subset(micro.bridge(), clean(), _CIRCUIT, "zero", steps=0)),
    Entry(lambda _: incomplete_subset(micro.bridge(), clean(), [], "zero")),
    Entry(lambda _: patch(micro.bridge(), "blocks.1.hook_resid_mid", clean())),
    Entry(lambda _: patch(micro.bridge(), "blocks.1.attn.hook_pattern", clean(), "S2")),
    Entry(lambda _: _patched(_STREAM, clean().select(torch.tensor([2])))),
    Entry(lambda _: patch_residual(micro.bridge(), clean(), turned())),
    Entry(lambda _: patch_residual(micro.bridge(), clean(), clean())),
    Entry(lambda _: patch_residual(micro.bridge(), clean(), corrupted(), [4], ["END"])),
    Entry(lambda _: _LEVEL.at(1, "IO")),
    Entry(lambda _: _LEVEL.recovered()),
    Entry(lambda _: _half_alike(), mend="Leave out the prompts that are the same on both sides."),
    Entry(lambda _: screened(["L0H0"], torch.zeros(2, 1), 2, lambda item: torch.zeros(2))),
    Entry(lambda _: screened(["L0H0"], torch.full((2, 1), torch.nan), 1, lambda _: torch.zeros(2))),
    Entry(lambda _: attribution_patching(micro.bridge(), clean(), turned())),
    Entry(lambda _: edge_attribution(micro.bridge(), clean(), corrupted(), steps=0)),
    Entry(lambda _: edge_attribution(gemma(), clean(), corrupted(), steps=1)),
    Entry(lambda _: direct_paths(micro.bridge(), clean(), corrupted(), LAST)),
    Entry(lambda _: direct_paths(micro.bridge(), clean(), corrupted(), FIRST, "qk")),
    Entry(
        lambda _: _sent_alike(),
        mend="Take a source of other tokens, as the corrupted side of the pairs.",
    ),
    Entry(lambda _: path_patch(micro.bridge(), clean(), corrupted(), FIRST, LAST, "x")),
    Entry(lambda _: path_patch(micro.bridge(), clean(), turned(), FIRST)),
    Entry(lambda _: path_patch(micro.bridge(), clean(), corrupted(), FIRST, [])),
    Entry(lambda _: path_effect(micro.bridge(), clean(), corrupted(), LAST, FIRST)),
    Entry(lambda _: _on(path_patch(micro.bridge(), clean(), corrupted(), FIRST), few())),
    Entry(lambda _: path_effects(gemma(), clean(), corrupted())),
    Entry(lambda _: freeze_norm(micro.bridge(), clean(), 9)),
    Entry(lambda _: freeze_norm(_inject(), clean(), LAST.layer)),
    Entry(lambda _: _on(freeze_norm(micro.bridge(), clean(), 2), few())),
    Entry(lambda _: _split_inputs()),
    Entry(lambda _: inject(llama(), clean(), Head(0, 0), vectors(), into="key")),
    Entry(lambda _: _inject(vector=vectors()[:5])),
    Entry(lambda _: _inject(scale=float("inf"))),
    Entry(lambda _: _on(_inject(), few())),
    Entry(lambda _: sweep(micro.bridge(), clean(), [LAST], vectors(), [1.0])),
    Entry(lambda _: sweep(micro.bridge(), clean(), [], vectors(), [-1, 1])),
    Entry(lambda _: _grid(scales=(1.0, 0.0))),
    Entry(lambda _: _grid(vectors={})),
    Entry(lambda _: _grid(readouts={})),
    Entry(lambda _: _grid(readouts=attention_readouts(["IO"]))),
)
