"""Path patching against its definition in a plain GPT-2, and where the answer is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures, micro
from claimlens.ci.selftests.kernels.samples import HEADS, ROUNDING, agree, at, rows
from claimlens.ci.selftests.twin_paths import PathTwin, Walk
from claimlens.circuits.kernels.ablate import resample_ablate, zero_ablate
from claimlens.circuits.kernels.attention import attention
from claimlens.circuits.kernels.cache import cache
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.kernels.path_patch import Mlps, path_effect, path_patch
from claimlens.circuits.kernels.path_sweep import path_effects
from claimlens.circuits.metrics import answer_tokens, logit_diff
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

MLPS: tuple[Mlps, ...] = ("recomputed", "frozen")
EARLY, MIDDLE, LATE = Head(0, 1), Head(1, 0), Head(2, 1)


@pytest.fixture(scope="module")
def paths() -> PathTwin:
    return PathTwin(micro.random_model())


def diffs(walks: list[Walk], prompts: Prompts) -> Tensor:
    answers, wrongs = answer_tokens(prompts)
    each = zip(walks, answers.tolist(), wrongs.tolist(), strict=True)
    return torch.stack([walk.logits[-1, a] - walk.logits[-1, w] for walk, a, w in each])


def pairs_of(clean: Prompts, corrupted: Prompts) -> list[tuple[Tensor, Tensor]]:
    return list(zip(rows(clean), rows(corrupted), strict=True))


# --- against the twin -----------------------------------------------------------------------------


@pytest.mark.parametrize("mlps", MLPS)
@pytest.mark.parametrize("senders", [[EARLY], [LATE], [EARLY, Head(0, 0), LATE]], ids=str)
def test_paths_to_the_logits(
    senders: list[Head], mlps: Mlps, model: Any, paths: PathTwin, clean: Prompts, corrupted: Prompts
) -> None:
    patched = [
        paths.path_patched(own, other, [at(head) for head in senders], freeze_mlps=mlps == "frozen")
        for own, other in pairs_of(clean, corrupted)
    ]
    before = diffs([paths.walk(tokens) for tokens in rows(clean)], clean)
    found = path_effect(model, clean, corrupted, senders, mlps=mlps)
    agree(found, diffs(patched, clean) - before)


@pytest.mark.parametrize("mlps", MLPS)
@pytest.mark.parametrize("into", ["q", "k", "v", "kv"])
def test_paths_into_other_heads(
    into: str, mlps: Mlps, model: Any, paths: PathTwin, clean: Prompts, corrupted: Prompts
) -> None:
    senders, receivers = [EARLY, MIDDLE], [Head(1, 1), LATE]
    reads = [(at(head), part) for head in receivers for part in into]
    patched = [
        paths.path_patched(
            own, other, [at(head) for head in senders], reads, freeze_mlps=mlps == "frozen"
        )
        for own, other in pairs_of(clean, corrupted)
    ]
    found = path_patch(model, clean, corrupted, senders, receivers, into, mlps)
    agree(logit_diff(found, clean), diffs(patched, clean))
    assert bool((diffs(patched, clean) - logit_diff(model, clean)).abs().max() > 1e-3)


def test_a_receivers_attention_is_that_of_its_patched_query(
    model: Any, paths: PathTwin, clean: Prompts, corrupted: Prompts
) -> None:
    found = attention(path_patch(model, clean, corrupted, EARLY, LATE), clean, LATE, "END", "IO")
    expected = []
    for (own, other), io in zip(
        pairs_of(clean, corrupted), clean.at("IO")[:, 0].tolist(), strict=True
    ):
        carried = paths.path_patched(own, other, [at(EARLY)])
        q, k = carried.read[at(LATE), "q"][-1], paths.walk(own).read[at(LATE), "k"]
        expected.append((k @ q / paths.d_head**0.5).softmax(0)[io])
    agree(found, expected)


@pytest.mark.parametrize("mlps", MLPS)
def test_the_sweep_is_path_patching_of_each_head(
    mlps: Mlps, model: Any, paths: PathTwin, clean: Prompts, corrupted: Prompts
) -> None:
    swept = path_effects(model, clean, corrupted, mlps)
    for head in HEADS:
        one = path_effect(model, clean, corrupted, head, mlps=mlps)
        agree(swept[:, head.layer, head.index], one, ROUNDING * 100)
    own, other = pairs_of(clean, corrupted)[3]
    walk = paths.path_patched(own, other, [at(MIDDLE)], freeze_mlps=mlps == "frozen")
    answer, wrong = (int(ids[3]) for ids in answer_tokens(clean))
    before = paths.walk(own).logits[-1]
    expected = (walk.logits[-1] - before)[answer] - (walk.logits[-1] - before)[wrong]
    agree(swept[3, MIDDLE.layer, MIDDLE.index], expected)


# --- endpoints ------------------------------------------------------------------------------------


def test_no_sender_is_exactly_the_clean_run(model: Any, clean: Prompts, corrupted: Prompts) -> None:
    plain = cache(model, clean).logits
    for receivers in (None, [LATE]):
        patched = path_patch(model, clean, corrupted, [], receivers)
        assert torch.equal(cache(patched, clean).logits, plain)


@pytest.mark.parametrize("mlps", MLPS)
def test_all_heads_to_the_logits_is_the_source_run_at_end(
    mlps: Mlps, model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    """END is the same token in both runs, so heads are all that makes its stream differ; MLPs at
    END follow where they are recomputed, and are what is missing where they are frozen."""
    patched = logit_diff(path_patch(model, clean, corrupted, HEADS, mlps=mlps), clean)
    there = logit_diff(model, corrupted)
    if mlps == "recomputed":
        agree(patched, there, ROUNDING * 100)
    else:
        assert bool(((patched - there).abs() > 1e-3).any())


def test_all_heads_into_a_query_is_the_source_runs_query_at_end(
    model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    name, end = f"blocks.{LATE.layer}.attn.hook_q", clean.at("END")[:, 0]
    before = [head for head in HEADS if head.layer < LATE.layer]
    patched = path_patch(model, clean, corrupted, before, LATE)
    every = torch.arange(len(clean))
    found = cache(patched, clean, [name])[name][every, end, LATE.index]
    agree(found, cache(model, corrupted, [name])[name][every, end, LATE.index], ROUNDING * 100)


def test_the_last_layer_has_only_a_direct_path(
    model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    """A head of the last layer is followed by its MLP alone: with it frozen nothing else moves,
    with it free the path is all that resampling the head does."""
    free = path_effect(model, clean, corrupted, LATE)
    whole = logit_diff(resample_ablate(model, LATE, corrupted), clean) - logit_diff(model, clean)
    agree(free, whole, ROUNDING * 100)
    frozen = path_effect(model, clean, corrupted, LATE, mlps="frozen")
    assert bool(((free - frozen).abs() > 1e-4).any())


def test_a_head_that_writes_nothing_has_exactly_no_effect(
    clean: Prompts, corrupted: Prompts
) -> None:
    """Its z differs, which is a measurement; what it sends is zero, which is its result."""
    raw = micro.random_model()
    with torch.no_grad():
        raw.transformer.h[0].attn.c_proj.weight[: raw.config.n_embd // 2] = 0
    mute = micro.boot_micro(raw)
    for receivers in (None, [LATE]):
        effect = path_effect(mute, clean, corrupted, Head(0, 0), receivers)
        assert float(effect.abs().max()) == 0.0
    assert float(path_effects(mute, clean, corrupted)[:, 0, 0].abs().max()) == 0.0


def test_nothing_is_silent_about_a_source_that_is_the_same(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotMeasured, match=r"sending at blocks.0.attn.hook_z, heads 1 changed noth"):
        path_effect(model, clean, clean, EARLY)


def test_it_starts_from_an_edited_model_too(model: Any, clean: Prompts, corrupted: Prompts) -> None:
    ablated = zero_ablate(model, Head(0, 0))
    swept = path_effects(ablated, clean, corrupted)[:, LATE.layer, LATE.index]
    agree(swept, path_effect(ablated, clean, corrupted, LATE), ROUNDING * 100)
    plain = path_effects(model, clean, corrupted)[:, LATE.layer, LATE.index]
    assert not torch.allclose(swept, plain)


def test_a_memory_tells_sweeps_apart(model: Any, pairs: PromptPairs) -> None:
    clean, other = pairs.clean, pairs.corrupted
    assert other is not None
    exchanged = replace(clean, answer=clean.wrong_answer, wrong_answer=clean.answer)
    asked: list[Callable[[], Tensor]] = [
        lambda: path_effects(model, clean, other),
        lambda: path_effects(model, clean, other, "frozen"),
        lambda: path_effects(zero_ablate(model, EARLY), clean, other),
        lambda: path_effects(model, exchanged, other),
    ]
    alone = [ask() for ask in asked]
    with remembering(Memory()):
        for expected, ask in [*zip(alone, asked, strict=True)] * 2:
            assert torch.equal(ask(), expected)
    assert torch.equal(alone[3], -alone[0])


# --- other architectures --------------------------------------------------------------------------


@pytest.mark.parametrize("name", architectures.NAMES)
@pytest.mark.parametrize("mlps", MLPS)
def test_the_last_layers_path_is_its_resampling_on_any_architecture(
    mlps: Mlps, name: str, clean: Prompts, corrupted: Prompts
) -> None:
    """Also: MLPs frozen or not is the same where the MLP beside it does not hear the head."""
    model = architectures.bridge(name)
    head = Head(int(model.cfg.n_layers) - 1, 1)
    whole = logit_diff(resample_ablate(model, head, corrupted), clean) - logit_diff(model, clean)
    path = path_effect(model, clean, corrupted, head, mlps=mlps)
    if mlps == "recomputed" or name == "GPTNeoX":
        agree(path, whole, 1e-6)
    else:
        assert bool(((path - whole).abs() > 1e-4).any())


@pytest.mark.parametrize("name", architectures.NAMES)
def test_the_sweep_on_any_architecture(name: str, clean: Prompts, corrupted: Prompts) -> None:
    model = architectures.bridge(name)
    if name == "Gemma2":
        with pytest.raises(NotApplicable):
            path_effects(model, clean, corrupted)
        return
    for mlps in MLPS:
        swept = path_effects(model, clean, corrupted, mlps)
        for head in (Head(0, 1), Head(1, 0)):
            one = path_effect(model, clean, corrupted, head, mlps=mlps)
            agree(swept[:, head.layer, head.index], one, 1e-5)


@pytest.mark.parametrize("name", architectures.NAMES)
@pytest.mark.parametrize("into", ["q", "k", "v"])
def test_paths_into_heads_of_a_group(
    into: str, name: str, clean: Prompts, corrupted: Prompts
) -> None:
    """All heads of layer 0 into all of layer 1, MLPs free: at END the inputs are the source's."""
    model = architectures.bridge(name)
    count = int(model.cfg.n_heads)
    senders, receivers = ([Head(n, i) for i in range(count)] for n in (0, 1))
    hook, end = f"blocks.1.attn.hook_{into}", clean.at("END")[:, 0]
    every = torch.arange(len(clean))
    patched = path_patch(model, clean, corrupted, senders, receivers, into)
    found = cache(patched, clean, [hook])[hook][every, end]
    agree(found, cache(model, corrupted, [hook])[hook][every, end], 1e-5)


# --- bad input ------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused(model: Any, clean: Prompts, corrupted: Prompts) -> None:
    with pytest.raises(NotApplicable, match="no head L7H0"):
        path_patch(model, clean, corrupted, Head(7, 0))
    with pytest.raises(ValueError, match="into='x': expected letters of q, k and v"):
        path_patch(model, clean, corrupted, EARLY, LATE, "x")
    with pytest.raises(ValueError, match="receivers is empty"):
        path_patch(model, clean, corrupted, EARLY, [])
    other_rows = corrupted.select(torch.arange(1, len(corrupted)))
    with pytest.raises(ValueError, match="differ in length"):
        path_patch(model, clean, other_rows, EARLY)
    patched = path_patch(model, clean, corrupted, EARLY)
    with pytest.raises(NotMeasured, match="run it on the prompts that it was made for"):
        logit_diff(patched, other_rows)


@pytest.mark.parametrize(
    ("senders", "receivers", "told"),
    [
        ([LATE], [MIDDLE], "into L1H0 from any sender, and none from L2H1 to any receiver: a head"),
        ([MIDDLE], [Head(1, 1), LATE], "leads into L1H1 from any sender: a head reads"),
        ([EARLY, MIDDLE, LATE], [LATE, Head(0, 0)], "into L0H0 .*, and none from L2H1 to any rec"),
        ([EARLY, MIDDLE, Head(1, 1)], [Head(1, 0)], "leads from L1H0, L1H1 to any receiver: a"),
    ],
)
def test_a_head_of_a_set_that_no_path_reaches_is_named(
    senders: list[Head],
    receivers: list[Head],
    told: str,
    model: Any,
    clean: Prompts,
    corrupted: Prompts,
) -> None:
    """It used to be left out in silence: the effect of the others was given for that of all."""
    for effect in (path_patch, path_effect):
        with pytest.raises(NotApplicable, match=told):
            effect(model, clean, corrupted, senders, receivers)
