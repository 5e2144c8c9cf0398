"""Every check of test_every_architecture.py goes red when a kernel that it is of is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests.kernels import every_head, every_latent
from claimlens.ci.selftests.kernels.every_case import Case
from claimlens.ci.selftests.kernels.test_every_architecture import CHECKS
from claimlens.ci.selftests.kernels.test_every_architecture import repeated_pairs as repeated_pairs
from claimlens.circuits.kernels.cache import Edited
from claimlens.circuits.parts import PromptPairs

Wrong = Callable[[Any], Any]


def bent(found: Any) -> Any:
    """Numbers a tenth larger, indices turned round, bits turned over, an edited model without its
    edits, a list without its first."""
    if isinstance(found, Tensor):
        if found.dtype == torch.bool:
            return ~found
        return (
            found.flip(tuple(range(found.ndim)))
            if not found.is_floating_point()
            else 1.1 * found + 0.01
        )
    if isinstance(found, dict):
        return {key: bent(value) for key, value in found.items()}
    if isinstance(found, tuple):
        return tuple(map(bent, found)) if isinstance(found[0], Tensor) else found[1:]
    if isinstance(found, Edited):
        return found.model
    if isinstance(found, PromptPairs):
        return found.select([0])
    assert is_dataclass(found)
    inside = {f.name: getattr(found, f.name) for f in fields(found)}
    tensors = {name: bent(value) for name, value in inside.items() if isinstance(value, Tensor)}
    return replace(found, **tensors)  # type: ignore[type-var]


BROKEN = {
    "attention_of_a_head": "head_pattern attention_sum",
    "scores_by_head": "head_scores",
    "next_tokens": "top_tokens",
    "continuation": "generate",
    "losses": "loss_by_position over_seen_guess",
    "divergence": "kl_div",
    "padding": "padding_gap",
    "directions": "split token_directions answer_direction",
    "knocked_out": "knockout isolate",
    "circuits": "faithfulness_gap minimality_gap incomplete_subset knockout",
    "signals": "signal_coefficients",
    "screened": "attribution_patching screen_heads",
    "hanging_on_tokens": "input_attribution",
    "residual_stream": "zero_region patch_residual",
    "query_sweep": "sweep inject",
    "sources": "source_effect source_effects",
    "preserving": "cspa_kl",
    "hooks_on_a_module": "run_module",
    "ablated": "loss_increase ablate_each answer_loss odds_against answer_change",
    "chosen": "most_active active_prompts",
    "boosted": "ablation_boosts log_probs",
    "attributed": "latent_logits latent_effects weight_boosts",
    "driven": "mlp_drive",
    "streamed": "max_activations sae_statistics peak_latents",
    "globally_and_locally": "global_and_local",
}
"""The kernels that are broken, by the check that must notice."""


@pytest.mark.parametrize(
    ("check", "kernel"), [(c, kernel) for c, names in BROKEN.items() for kernel in names.split()]
)
def test_a_broken_kernel_is_noticed(
    check: str,
    kernel: str,
    pairs: PromptPairs,
    swapped: PromptPairs,
    repeated_pairs: PromptPairs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = every_head if CHECKS[check] in every_head.CHECKS else every_latent
    real = getattr(home, kernel)
    monkeypatch.setattr(home, kernel, lambda *args, **kwargs: bent(real(*args, **kwargs)))
    with pytest.raises(AssertionError):
        CHECKS[check](Case("GPT2", pairs, swapped, repeated_pairs))


def test_every_check_has_its_break() -> None:
    assert sorted(BROKEN) == sorted(CHECKS)
