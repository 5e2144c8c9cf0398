"""How claimlens measures: a model and prompts in, one value per prompt out.

Nothing here imports pytest, reads a file or picks a device, and importing this package imports
no torch: each name below is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from claimlens.circuits.kernels.ablate import mean_ablate as mean_ablate
    from claimlens.circuits.kernels.ablate import resample_ablate as resample_ablate
    from claimlens.circuits.kernels.ablate import zero_ablate as zero_ablate
    from claimlens.circuits.kernels.ablate import zero_values as zero_values
    from claimlens.circuits.kernels.attention import attention as attention
    from claimlens.circuits.kernels.attention import attention_score as attention_score
    from claimlens.circuits.kernels.attention import attention_sum as attention_sum
    from claimlens.circuits.kernels.attribution import attribute as attribute
    from claimlens.circuits.kernels.attribution import moved as moved
    from claimlens.circuits.kernels.attribution_patching import screen_heads as screen_heads
    from claimlens.circuits.kernels.cache import cache as cache
    from claimlens.circuits.kernels.composition import composes as composes
    from claimlens.circuits.kernels.composition import senders_before as senders_before
    from claimlens.circuits.kernels.copy_suppression import Counted as Counted
    from claimlens.circuits.kernels.copy_suppression import copy_effect as copy_effect
    from claimlens.circuits.kernels.copy_suppression import effect_map as effect_map
    from claimlens.circuits.kernels.copy_suppression import source_effect as source_effect
    from claimlens.circuits.kernels.copy_suppression import source_effects as source_effects
    from claimlens.circuits.kernels.cspa import cspa_kl as cspa_kl
    from claimlens.circuits.kernels.cspa import cspa_kls as cspa_kls
    from claimlens.circuits.kernels.cspa import first_over_others as first_over_others
    from claimlens.circuits.kernels.cspa import share_kept as share_kept
    from claimlens.circuits.kernels.decomposition import decompose as decompose
    from claimlens.circuits.kernels.direct_paths import direct_paths as direct_paths
    from claimlens.circuits.kernels.directions import answer_direction as answer_direction
    from claimlens.circuits.kernels.directions import head_output as head_output
    from claimlens.circuits.kernels.directions import split as split
    from claimlens.circuits.kernels.directions import token_directions as token_directions
    from claimlens.circuits.kernels.edge_attribution import screen_edges as screen_edges
    from claimlens.circuits.kernels.effective_embedding import (
        effective_embedding as effective_embedding,
    )
    from claimlens.circuits.kernels.frozen_norm import freeze_norm as freeze_norm
    from claimlens.circuits.kernels.generate import continue_text as continue_text
    from claimlens.circuits.kernels.generate import generate as generate
    from claimlens.circuits.kernels.generate import without_last as without_last
    from claimlens.circuits.kernels.global_local import global_and_local as global_and_local
    from claimlens.circuits.kernels.global_local import peak_latents as peak_latents
    from claimlens.circuits.kernels.hooked import in_force as in_force
    from claimlens.circuits.kernels.hooked import matching as matching
    from claimlens.circuits.kernels.hooked import replaced as replaced
    from claimlens.circuits.kernels.hooked import run_module as run_module
    from claimlens.circuits.kernels.hooked import zeroed as zeroed
    from claimlens.circuits.kernels.incompleteness import incomplete_subset as incomplete_subset
    from claimlens.circuits.kernels.induction import half_of as half_of
    from claimlens.circuits.kernels.induction import head_pattern as head_pattern
    from claimlens.circuits.kernels.induction import head_scores as head_scores
    from claimlens.circuits.kernels.induction import label_scores as label_scores
    from claimlens.circuits.kernels.induction import stripe as stripe
    from claimlens.circuits.kernels.input_attribution import input_attribution as input_attribution
    from claimlens.circuits.kernels.knockout import Node as Node
    from claimlens.circuits.kernels.knockout import isolate as isolate
    from claimlens.circuits.kernels.knockout import knockout as knockout
    from claimlens.circuits.kernels.latent_attribution import (
        feature_attribution as feature_attribution,
    )
    from claimlens.circuits.kernels.latent_drive import ablate_mlp as ablate_mlp
    from claimlens.circuits.kernels.latent_drive import mlp_drive as mlp_drive
    from claimlens.circuits.kernels.latent_logits import activation_map as activation_map
    from claimlens.circuits.kernels.latent_logits import latent_effects as latent_effects
    from claimlens.circuits.kernels.latent_logits import latent_logits as latent_logits
    from claimlens.circuits.kernels.latent_logits import latent_scatter as latent_scatter
    from claimlens.circuits.kernels.latent_logits import rank_agreement as rank_agreement
    from claimlens.circuits.kernels.latent_sweep import ablate_each_latent as ablate_each_latent
    from claimlens.circuits.kernels.latents import ablate_each as ablate_each
    from claimlens.circuits.kernels.latents import active_prompts as active_prompts
    from claimlens.circuits.kernels.latents import halves as halves
    from claimlens.circuits.kernels.latents import loss_increase as loss_increase
    from claimlens.circuits.kernels.latents import most_active as most_active
    from claimlens.circuits.kernels.max_activations import max_activations as max_activations
    from claimlens.circuits.kernels.next_tokens import standing as standing
    from claimlens.circuits.kernels.next_tokens import top_tokens as top_tokens
    from claimlens.circuits.kernels.patch import patch as patch
    from claimlens.circuits.kernels.patch import patch_residual as patch_residual
    from claimlens.circuits.kernels.patch import zero_region as zero_region
    from claimlens.circuits.kernels.patch_heads import patch_heads as patch_heads
    from claimlens.circuits.kernels.patch_heads import (
        patch_heads_by_position as patch_heads_by_position,
    )
    from claimlens.circuits.kernels.path_patch import path_effect as path_effect
    from claimlens.circuits.kernels.path_patch import path_patch as path_patch
    from claimlens.circuits.kernels.path_sweep import path_effects as path_effects
    from claimlens.circuits.kernels.projection_loss import loss_change as loss_change
    from claimlens.circuits.kernels.projection_loss import loss_changes as loss_changes
    from claimlens.circuits.kernels.projection_loss import (
        loss_changes_of_each as loss_changes_of_each,
    )
    from claimlens.circuits.kernels.projection_loss import projection_gap as projection_gap
    from claimlens.circuits.kernels.query_grid import query_grid as query_grid
    from claimlens.circuits.kernels.query_intervention import inject as inject
    from claimlens.circuits.kernels.query_sweep import attention_readouts as attention_readouts
    from claimlens.circuits.kernels.query_sweep import sweep as sweep
    from claimlens.circuits.kernels.sae import ablate_latents as ablate_latents
    from claimlens.circuits.kernels.sae import ablate_site as ablate_site
    from claimlens.circuits.kernels.sae import splice as splice
    from claimlens.circuits.kernels.sae_effects import answer_change as answer_change
    from claimlens.circuits.kernels.sae_effects import conditions as conditions
    from claimlens.circuits.kernels.sae_effects import interval_bars as interval_bars
    from claimlens.circuits.kernels.sae_effects import split_mlp as split_mlp
    from claimlens.circuits.kernels.sae_statistics import sae_statistics as sae_statistics
    from claimlens.circuits.kernels.signals import signal_coefficients as signal_coefficients
    from claimlens.circuits.kernels.token_boosts import ablation_boosts as ablation_boosts
    from claimlens.circuits.kernels.token_boosts import boost_bars as boost_bars
    from claimlens.circuits.kernels.token_boosts import boost_margin as boost_margin
    from claimlens.circuits.kernels.token_boosts import eligible as eligible
    from claimlens.circuits.kernels.token_boosts import log_probs as log_probs
    from claimlens.circuits.kernels.token_boosts import rank_tokens as rank_tokens
    from claimlens.circuits.kernels.token_boosts import token_counts as token_counts
    from claimlens.circuits.kernels.token_boosts import weight_boosts as weight_boosts
    from claimlens.circuits.kernels.training import over_seen_guess as over_seen_guess
    from claimlens.circuits.kernels.training import seen_guess as seen_guess
    from claimlens.circuits.kernels.training import steepest_fall as steepest_fall
    from claimlens.circuits.kernels.weights import copies as copies
    from claimlens.circuits.kernels.weights import copy_scores as copy_scores
    from claimlens.circuits.kernels.weights import qk_matches as qk_matches
    from claimlens.circuits.kernels.weights import qk_scores as qk_scores
    from claimlens.circuits.metrics import answer_loss as answer_loss
    from claimlens.circuits.metrics import completeness_gap as completeness_gap
    from claimlens.circuits.metrics import correct as correct
    from claimlens.circuits.metrics import correlation as correlation
    from claimlens.circuits.metrics import denoising as denoising
    from claimlens.circuits.metrics import excess_over_others as excess_over_others
    from claimlens.circuits.metrics import faithfulness_gap as faithfulness_gap
    from claimlens.circuits.metrics import kl_div as kl_div
    from claimlens.circuits.metrics import logit_diff as logit_diff
    from claimlens.circuits.metrics import loss as loss
    from claimlens.circuits.metrics import loss_by_position as loss_by_position
    from claimlens.circuits.metrics import margin_over_others as margin_over_others
    from claimlens.circuits.metrics import minimality_gap as minimality_gap
    from claimlens.circuits.metrics import noising as noising
    from claimlens.circuits.metrics import odds_against as odds_against
    from claimlens.circuits.parts import Circuit as Circuit
    from claimlens.circuits.parts import Head as Head
    from claimlens.circuits.parts import Position as Position
    from claimlens.circuits.parts import PromptPairs as PromptPairs
    from claimlens.circuits.parts import Prompts as Prompts

_HOME = {
    "ablate_each_latent": "kernels.latent_sweep",
    "direct_paths": "kernels.direct_paths",
    "patch_heads": "kernels.patch_heads",
    "patch_heads_by_position": "kernels.patch_heads",
    "mean_ablate": "kernels.ablate",
    "resample_ablate": "kernels.ablate",
    "zero_ablate": "kernels.ablate",
    "zero_values": "kernels.ablate",
    "attention": "kernels.attention",
    "attention_score": "kernels.attention",
    "attention_sum": "kernels.attention",
    "attribute": "kernels.attribution",
    "moved": "kernels.attribution",
    "screen_heads": "kernels.attribution_patching",
    "cache": "kernels.cache",
    "composes": "kernels.composition",
    "senders_before": "kernels.composition",
    "Counted": "kernels.copy_suppression",
    "copy_effect": "kernels.copy_suppression",
    "effect_map": "kernels.copy_suppression",
    "source_effect": "kernels.copy_suppression",
    "source_effects": "kernels.copy_suppression",
    "cspa_kl": "kernels.cspa",
    "cspa_kls": "kernels.cspa",
    "first_over_others": "kernels.cspa",
    "share_kept": "kernels.cspa",
    "decompose": "kernels.decomposition",
    "answer_direction": "kernels.directions",
    "head_output": "kernels.directions",
    "split": "kernels.directions",
    "token_directions": "kernels.directions",
    "screen_edges": "kernels.edge_attribution",
    "effective_embedding": "kernels.effective_embedding",
    "freeze_norm": "kernels.frozen_norm",
    "continue_text": "kernels.generate",
    "generate": "kernels.generate",
    "without_last": "kernels.generate",
    "global_and_local": "kernels.global_local",
    "peak_latents": "kernels.global_local",
    "in_force": "kernels.hooked",
    "matching": "kernels.hooked",
    "replaced": "kernels.hooked",
    "run_module": "kernels.hooked",
    "zeroed": "kernels.hooked",
    "incomplete_subset": "kernels.incompleteness",
    "half_of": "kernels.induction",
    "head_pattern": "kernels.induction",
    "head_scores": "kernels.induction",
    "label_scores": "kernels.induction",
    "stripe": "kernels.induction",
    "input_attribution": "kernels.input_attribution",
    "Node": "kernels.knockout",
    "isolate": "kernels.knockout",
    "knockout": "kernels.knockout",
    "feature_attribution": "kernels.latent_attribution",
    "ablate_mlp": "kernels.latent_drive",
    "mlp_drive": "kernels.latent_drive",
    "activation_map": "kernels.latent_logits",
    "latent_effects": "kernels.latent_logits",
    "latent_logits": "kernels.latent_logits",
    "latent_scatter": "kernels.latent_logits",
    "rank_agreement": "kernels.latent_logits",
    "ablate_each": "kernels.latents",
    "active_prompts": "kernels.latents",
    "answer_loss": "metrics",
    "halves": "kernels.latents",
    "loss_increase": "kernels.latents",
    "most_active": "kernels.latents",
    "odds_against": "metrics",
    "max_activations": "kernels.max_activations",
    "standing": "kernels.next_tokens",
    "top_tokens": "kernels.next_tokens",
    "patch": "kernels.patch",
    "patch_residual": "kernels.patch",
    "zero_region": "kernels.patch",
    "path_effect": "kernels.path_patch",
    "path_patch": "kernels.path_patch",
    "path_effects": "kernels.path_sweep",
    "loss_change": "kernels.projection_loss",
    "loss_changes": "kernels.projection_loss",
    "loss_changes_of_each": "kernels.projection_loss",
    "projection_gap": "kernels.projection_loss",
    "query_grid": "kernels.query_grid",
    "attention_readouts": "kernels.query_sweep",
    "inject": "kernels.query_intervention",
    "sweep": "kernels.query_sweep",
    "ablate_latents": "kernels.sae",
    "ablate_site": "kernels.sae",
    "splice": "kernels.sae",
    "answer_change": "kernels.sae_effects",
    "conditions": "kernels.sae_effects",
    "interval_bars": "kernels.sae_effects",
    "split_mlp": "kernels.sae_effects",
    "sae_statistics": "kernels.sae_statistics",
    "signal_coefficients": "kernels.signals",
    "ablation_boosts": "kernels.token_boosts",
    "boost_bars": "kernels.token_boosts",
    "boost_margin": "kernels.token_boosts",
    "eligible": "kernels.token_boosts",
    "log_probs": "kernels.token_boosts",
    "rank_tokens": "kernels.token_boosts",
    "token_counts": "kernels.token_boosts",
    "weight_boosts": "kernels.token_boosts",
    "over_seen_guess": "kernels.training",
    "seen_guess": "kernels.training",
    "steepest_fall": "kernels.training",
    "copies": "kernels.weights",
    "copy_scores": "kernels.weights",
    "qk_matches": "kernels.weights",
    "qk_scores": "kernels.weights",
    "completeness_gap": "metrics",
    "correct": "metrics",
    "correlation": "metrics",
    "denoising": "metrics",
    "excess_over_others": "metrics",
    "faithfulness_gap": "metrics",
    "kl_div": "metrics",
    "logit_diff": "metrics",
    "loss": "metrics",
    "loss_by_position": "metrics",
    "margin_over_others": "metrics",
    "minimality_gap": "metrics",
    "noising": "metrics",
    "Circuit": "parts",
    "Head": "parts",
    "Position": "parts",
    "PromptPairs": "parts",
    "Prompts": "parts",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
