"""Every public kernel on GPT-2, Llama, GPT-NeoX and one like Gemma 2, and none forgotten.

The checks are in every_head.py and every_latent.py, more in test_architectures.py and in the tests
named below. What has no meaning on an architecture is "not applicable", in exactly these places.
"""

from __future__ import annotations

from collections.abc import Collection

import pytest
import torch

from claimlens import circuits
from claimlens.ci.selftests import architectures, micro
from claimlens.ci.selftests.kernels import every_head, every_latent, test_architectures
from claimlens.ci.selftests.kernels.every_case import Case
from claimlens.ci.selftests.test_coverage import has_test
from claimlens.circuits.parts import PromptPairs
from claimlens.circuits.verdict import NotApplicable
from claimlens.fixtures.prompts.repeated import repeated_prompts
from claimlens.fixtures.tokens import Vocabulary

CHECKS = {check.__name__: check for check in (*every_head.CHECKS, *every_latent.CHECKS)}
NOT_APPLICABLE = {
    ("sources", "Gemma2"): "normalised together with the other heads",
    ("preserving", "Gemma2"): "normalised together with the other heads",
    ("attributed", "Gemma2"): "is normalised again",
}

HERE = "ci/selftests/kernels"
ELSEWHERE = {
    f"{HERE}/test_query_architectures.py::test_scores_are_what_the_softmax_is_taken_of": (
        "attention_score"
    ),
    f"{HERE}/test_query_architectures.py::test_a_query_is_that_of_the_changed_stream": "inject",
    f"{HERE}/test_query_architectures.py::test_what_a_head_writes_where_it_writes_it_alone": (
        "head_output"
    ),
    f"{HERE}/test_architectures.py::test_the_clean_run_is_that_of_the_raw_model": "cache",
    f"{HERE}/test_composition.py::test_grouped_heads_send_the_values_of_their_group": "composes",
    f"{HERE}/test_decomposition.py::test_other_architectures_sum_to_the_raw_models_logit": (
        "decompose"
    ),
    f"{HERE}/test_screening.py::test_other_architectures": "screen_edges",
    f"{HERE}/test_effective_embedding.py::test_so_they_do_in_other_architectures": (
        "effective_embedding"
    ),
    f"{HERE}/test_latent_attribution.py::test_other_architectures": "feature_attribution",
    f"{HERE}/test_path_patch.py::test_the_last_layers_path_is_its_resampling_on_any_architecture": (
        "path_effect path_patch"
    ),
    f"{HERE}/test_path_patch.py::test_the_sweep_on_any_architecture": "path_effects",
    f"{HERE}/test_direct_losses.py::test_the_engine_agrees_with_the_plain_form": (
        "loss_changes_of_each"
    ),
    f"{HERE}/test_sweeps.py::test_the_engine_gives_what_hooks_give": (
        "patch_heads patch_heads_by_position direct_paths ablate_each_latent"
    ),
    f"{HERE}/test_projection_loss.py::test_the_parts_add_up_in_other_architectures": (
        "projection_gap loss_change loss_changes"
    ),
    f"{HERE}/test_sae_architectures.py::test_an_sae_on_the_neurons": (
        "splice ablate_site ablate_latents"
    ),
    f"{HERE}/test_sae_effects.py::test_other_architectures_add_up_too": "split_mlp",
    f"{HERE}/test_frozen_norm.py::test_with_heads_ablated_it_divides_by_the_clean_scale": (
        "freeze_norm"
    ),
    f"{HERE}/test_weights.py::test_other_architectures": "copies copy_scores qk_matches qk_scores",
}
"""Tests on other architectures, and the kernels they are of."""

NO_MODEL = {
    "data that a kernel is given or gives back": (
        "Circuit Counted Head Node Position PromptPairs Prompts"
    ),
    "numbers of another kernel in, numbers out; no model is asked": (
        "boost_margin correlation denoising eligible excess_over_others first_over_others "
        "margin_over_others noising rank_agreement rank_tokens share_kept steepest_fall"
    ),
    "prompts in, prompts or counts out; no model is asked": (
        "half_of halves token_counts without_last"
    ),
    "draws what other kernels measured": "boost_bars effect_map interval_bars latent_scatter",
    "the layers before another; no weight is read": "senders_before",
    "the sign of logit_diff": "correct",
}
"""Names that need no test on another architecture, by their reason."""


@pytest.fixture(scope="module")
def repeated_pairs() -> PromptPairs:
    cpu = torch.device("cpu")
    return repeated_prompts(Vocabulary(micro.tokenizer()), 4, 0, cpu, micro.CONTEXT)


@pytest.mark.parametrize("name", architectures.NAMES)
@pytest.mark.parametrize("check", CHECKS)
def test_a_kernel_measures_what_the_raw_model_does(
    check: str, name: str, pairs: PromptPairs, swapped: PromptPairs, repeated_pairs: PromptPairs
) -> None:
    case, reason = Case(name, pairs, swapped, repeated_pairs), NOT_APPLICABLE.get((check, name))
    if reason is None:
        CHECKS[check](case)
        return
    with pytest.raises(NotApplicable, match=reason):
        CHECKS[check](case)


def unplaced(names: Collection[str]) -> list[str]:
    """Those that no check, no other test and no reason speaks of."""
    tables = (*every_head.CHECKS.values(), *every_latent.CHECKS.values())
    told = " ".join((*tables, *ELSEWHERE.values(), *NO_MODEL.values())).split()
    return sorted(set(names) - {*told, *test_architectures.KERNELS})


def test_no_public_kernel_is_forgotten() -> None:
    assert unplaced(circuits.__all__) == []
    assert unplaced(["knockout", "a_new_kernel"]) == ["a_new_kernel"]


def test_the_tables_name_what_there_is() -> None:
    tables = (*every_head.CHECKS.values(), *every_latent.CHECKS.values())
    told = set(" ".join((*tables, *ELSEWHERE.values(), *NO_MODEL.values())).split())
    assert sorted(told - {*circuits.__all__}) == ["padding_gap"]  # of kernels.padding alone
    assert [test for test in ELSEWHERE if not has_test(test)] == []
    assert all(len(reason.split()) >= 4 for reason in NO_MODEL)
