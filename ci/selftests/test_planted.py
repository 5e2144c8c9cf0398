"""The planted models do what their plan says, and each mutant lacks just what its name says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.circuits import (
    Head,
    PromptPairs,
    attention,
    attribute,
    cache,
    copy_effect,
    logit_diff,
    loss,
    margin_over_others,
    moved,
    zero_ablate,
)
from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.verdict import NotMeasured
from claimlens.fixtures import planted
from claimlens.fixtures.default import words
from claimlens.fixtures.loading import Settings, boot, digest_of
from claimlens.fixtures.planted_circuit import CIRCUIT, NAMES, OBJECTS, PLACES, VOCABULARY
from claimlens.fixtures.planted_weights import D_HEAD, D_MODEL, LOGIT_GAIN
from claimlens.fixtures.prompts.ioi import TEMPLATES, ioi_prompts
from claimlens.fixtures.prompts.repeated import repeated_prompts
from claimlens.fixtures.tokens import Vocabulary

CPU = torch.device("cpu")
MUTANTS = [name for name in planted.PLANTED_NAMES if name != "planted"]
SILENT = [name for name in MUTANTS if not name.endswith("-qk")]
BLIND = [name for name in MUTANTS if name.endswith("-qk")]
HEADS, DECOYS = planted.roles("planted"), planted.decoys()
MOVERS = HEADS["ioi/name_mover"]
(BACKUP,) = HEADS["ioi/backup_name_mover"]
(NEGATIVE,) = HEADS["copy_suppression/negative_head"]
(S_INHIBITION,) = HEADS["ioi/s_inhibition"]
(DUPLICATE,) = HEADS["ioi/duplicate_token"]
(INDUCTION,) = HEADS["induction/induction_head"]
(PREVIOUS,) = HEADS["induction/previous_token"]
(MOVER_DECOY,) = DECOYS["ioi/name_mover"]
(DUPLICATE_DECOY,) = DECOYS["ioi/duplicate_token"]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(planted.build("planted")[1])


@pytest.fixture(scope="module")
def intact() -> Any:
    return boot(*planted.build("planted"), "planted", Settings("cpu", "float32", 0))


@pytest.fixture(scope="module")
def ioi(vocabulary: Vocabulary) -> PromptPairs:
    """One prompt of every template."""
    return ioi_prompts(vocabulary, len(TEMPLATES), 0, CPU)


@pytest.fixture(scope="module")
def repeats(vocabulary: Vocabulary) -> PromptPairs:
    return repeated_prompts(vocabulary, 32, 0, CPU, context=32)


# The tokenizer and the registry of names


def test_tokens_round_trip(vocabulary: Vocabulary) -> None:
    text = "When Mary and John went to the store , John gave a book to"
    ids = vocabulary.encode(text)
    assert ids == [VOCABULARY.index(word) for word in text.split()]
    assert vocabulary.tokenizer.decode(ids) == text
    assert vocabulary.bos == 0


def test_a_word_outside_the_vocabulary_is_an_error(vocabulary: Vocabulary) -> None:
    with pytest.raises(NotMeasured, match="'Zorro'"):
        vocabulary.encode("When Mary and Zorro went to the store")


def test_the_vocabulary_is_64_words_with_which_every_ioi_template_can_be_written(
    ioi: PromptPairs,
) -> None:
    assert len(set(VOCABULARY)) == 64
    assert set(ioi.templates) == set(TEMPLATES)
    assert set(NAMES) <= set(words.NAMES)
    assert set(PLACES) <= set(words.PLACES)
    assert set(OBJECTS) <= set(words.OBJECTS)


def test_the_same_name_gives_the_same_weights_and_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    first, second = (digest_of(planted.build("planted")[0]) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("entry", [planted.build, planted.roles, planted.circuit_of])
def test_an_unknown_name_is_an_error_that_knows_better(entry: Any) -> None:
    with pytest.raises(ValueError, match=r"did you mean 'planted:no-induction'\?.*known: planted"):
        entry("planted:no-inductoin")


def test_every_role_and_decoy_is_a_head_of_its_own() -> None:
    heads = [
        head for table in (planted.ROLES, planted.DECOYS) for h in table.values() for head in h
    ]
    assert len(heads) == len(set(heads))
    assert set(heads) <= set(CIRCUIT)
    assert planted.roles("planted:no-backup") == planted.roles("planted")


# The intact model


def test_processing_changes_no_log_prob(intact: Any, ioi: PromptPairs) -> None:
    raw, _ = planted.build("planted")
    with torch.no_grad():
        before = raw(ioi.clean.tokens).logits.log_softmax(-1)
        after = intact(ioi.clean.tokens).log_softmax(-1)
    assert (before - after).abs().max() < 1e-3


def test_layer_norm_hardly_changes_anything(intact: Any, ioi: PromptPairs) -> None:
    names = [f"blocks.{layer}.ln1.hook_scale" for layer in range(4)] + ["ln_final.hook_scale"]
    scales = cache(intact, ioi.clean, names).activations.values()
    smallest, largest = min(s.min() for s in scales), max(s.max() for s in scales)
    assert largest / smallest < 1.02


@pytest.mark.parametrize("head", MOVERS)
def test_direct_effects_are_as_predicted(intact: Any, ioi: PromptPairs, head: Head) -> None:
    (move,) = CIRCUIT[f"{head.layer}.{head.index}"].moves
    to = {label: attention(intact, ioi.clean, head, "END", label) for label in ("IO", "S1", "S2")}
    predicted = LOGIT_GAIN * move.gain * (to["IO"] - to["S1"] - to["S2"])
    measured = attribute(intact, ioi.clean, head, "logit_diff")
    torch.testing.assert_close(measured, predicted, rtol=0.03, atol=0.0)


@pytest.mark.parametrize(
    ("head", "dst", "src"),
    [
        (DUPLICATE, "S2", "S1"),
        (DUPLICATE_DECOY, "S2", "S1"),
        (S_INHIBITION, "END", "S2"),
        (MOVERS[0], "END", "IO"),
        (MOVERS[1], "END", "IO"),
        (MOVER_DECOY, "END", "IO"),
        (NEGATIVE, "END", "IO"),
    ],
)
def test_heads_look_where_planned_and_not_always_exactly_alike(
    intact: Any, ioi: PromptPairs, head: Head, dst: str, src: str
) -> None:
    seen = attention(intact, ioi.clean, head, dst, src)
    assert seen.min() > 0.75
    assert seen.max() < 0.99
    assert seen.std() > 1e-3


def test_the_task_is_done_whatever_the_template(intact: Any, ioi: PromptPairs) -> None:
    difference = logit_diff(intact, ioi.clean)
    assert difference.min() > 4.0
    assert difference.std() > 0.01


def test_padding_on_the_right_changes_nothing_at_end(intact: Any, ioi: PromptPairs) -> None:
    shortest = int(ioi.clean.lengths.argmin())
    length = int(ioi.clean.lengths[shortest])
    assert length < ioi.clean.tokens.shape[1]
    with torch.no_grad():
        alone = intact(ioi.clean.tokens[shortest : shortest + 1, :length])[0, -1]
        padded = intact(ioi.clean.tokens)[shortest, length - 1]
    torch.testing.assert_close(alone, padded, atol=1e-4, rtol=0.0)


def test_without_s_inhibition_movers_turn_from_io_to_s(intact: Any, ioi: PromptPairs) -> None:
    def gaze(model: Model) -> tuple[float, float]:
        to = [attention(model, ioi.clean, MOVERS[0], "END", s) for s in ("IO", "S1", "S2")]
        return to[0].mean().item(), (to[1] + to[2]).mean().item()

    assert gaze(intact) == pytest.approx((0.92, 0.01), abs=0.03)
    assert gaze(zero_ablate(intact, S_INHIBITION)) == pytest.approx((0.32, 0.65), abs=0.05)


def test_the_backup_is_idle_until_the_movers_are_gone(intact: Any, ioi: PromptPairs) -> None:
    alone = logit_diff(zero_ablate(intact, BACKUP), ioi.clean) - logit_diff(intact, ioi.clean)
    assert alone.abs().max() < 0.25
    moverless = zero_ablate(intact, MOVERS)
    assert attribute(moverless, ioi.clean, BACKUP, "logit_diff").min() > 4.0
    assert attribute(intact, ioi.clean, BACKUP, "logit_diff").abs().max() < 0.25


def test_the_negative_head_is_the_top_suppressor(intact: Any, ioi: PromptPairs) -> None:
    assert attribute(intact, ioi.clean, NEGATIVE, "answer").max() < -1.0
    assert margin_over_others(-copy_effect(intact, ioi.clean), [NEGATIVE]).min() > 1.0


@pytest.mark.parametrize("decoy", [MOVER_DECOY, DUPLICATE_DECOY])
def test_decoys_have_output_and_no_effect(intact: Any, ioi: PromptPairs, decoy: Head) -> None:
    assert torch.count_nonzero(intact.W_O[decoy.layer, decoy.index])
    without = logit_diff(zero_ablate(intact, decoy), ioi.clean)
    torch.testing.assert_close(without, logit_diff(intact, ioi.clean), atol=0.05, rtol=0.0)
    assert moved(intact, ioi.clean, decoy, "END", "IO").abs().max() < 1e-3


def test_repeated_tokens_are_predicted(intact: Any, repeats: PromptPairs) -> None:
    clean = repeats.clean
    assert attention(intact, clean, INDUCTION, "REPEAT", "FIRST+1").min() > 0.5
    assert attention(intact, clean, PREVIOUS, "REPEAT", "REPEAT-1").min() > 0.8
    drop = loss(intact, clean, "FIRST") - loss(intact, clean, "REPEAT")
    assert drop.min() > 1.0
    for head in (INDUCTION, PREVIOUS):
        assert attention(intact, clean, head, "REPEAT", "FIRST").std() > 0


# The mutants


@pytest.mark.parametrize("name", MUTANTS)
def test_only_losing_all_copying_loses_the_task(name: str, ioi: PromptPairs) -> None:
    accurate = (_differences(name, ioi) > 0).float().mean()
    if name == "planted:no-copying":
        assert accurate < 0.8
    else:
        assert accurate == 1.0


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_the_intact_model_but_for_its_heads(name: str) -> None:
    mutant, intact = _raw(name), _raw("planted")
    assert digest_of(mutant) != digest_of(intact)
    for head in _mutated(name):
        mended, source = (model.transformer.h[head.layer].attn for model in (mutant, intact))
        rows = _dims(head)
        with torch.no_grad():
            if name in SILENT:
                mended.c_proj.weight[rows] = source.c_proj.weight[rows]
            for part in (0, D_MODEL) if name in BLIND else ():  # query, key
                columns = slice(part + rows.start, part + rows.stop)
                mended.c_attn.weight[:, columns] = source.c_attn.weight[:, columns]
                mended.c_attn.bias[columns] = source.c_attn.bias[columns]
    assert digest_of(mutant) == digest_of(intact)


@pytest.mark.parametrize("name", SILENT)
def test_a_silenced_head_reads_as_before_and_writes_exactly_nothing(name: str) -> None:
    mutant = _raw(name)
    for head in _mutated(name):
        block = mutant.transformer.h[head.layer].attn
        assert not block.c_proj.weight[_dims(head)].any()
        assert block.c_attn.weight[:, 2 * D_MODEL :][:, _dims(head)].any()


@pytest.mark.parametrize("name", BLIND)
def test_a_blinded_head_looks_everywhere_alike(name: str, ioi: PromptPairs) -> None:
    patterns = _run(name, ioi).attentions
    even = 1 / torch.arange(1, ioi.clean.tokens.shape[1] + 1)
    for head in _mutated(name):
        largest = patterns[head.layer][:, head.index].amax(-1)
        assert (largest / even).max() < 1.3
        assert largest.std(0)[1:].min() > 0


def _raw(name: str) -> Any:
    return planted.build(name)[0]


def _mutated(name: str) -> list[Head]:
    """Where the mutant's plan differs from the intact one."""
    return [Head.parse(h) for h, plan in planted.circuit_of(name).items() if plan != CIRCUIT[h]]


def _dims(head: Head) -> slice:
    return slice(head.index * D_HEAD, (head.index + 1) * D_HEAD)


def _run(name: str, ioi: PromptPairs) -> Any:
    with torch.no_grad():
        return _raw(name)(ioi.clean.tokens, output_attentions=True)


def _differences(name: str, ioi: PromptPairs) -> Tensor:
    clean, rows = ioi.clean, torch.arange(len(ioi))
    assert clean.answer is not None
    assert clean.wrong_answer is not None
    logits = _run(name, ioi).logits[rows, clean.at("END")[:, 0]]
    difference: Tensor = logits[rows, clean.answer] - logits[rows, clean.wrong_answer]
    return difference
