"""Heads, their attention and their weights: what has no score."""

from __future__ import annotations

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
    gemma,
    llama,
    names,
    planted,
    repeated,
    silent,
    unchecked,
)
from claimlens.circuits.kernels.attention import attention_score
from claimlens.circuits.kernels.cache import Edit, edited
from claimlens.circuits.kernels.composition import (
    composes,
    composition_norm,
    compositions,
    senders_before,
)
from claimlens.circuits.kernels.copy_suppression import Counted, effect_map
from claimlens.circuits.kernels.cspa import cspa_kl
from claimlens.circuits.kernels.decomposition import decompose
from claimlens.circuits.kernels.directions import one_position, split
from claimlens.circuits.kernels.effective_embedding import effective_embedding, require_mlp0
from claimlens.circuits.kernels.factored import eigenvalue_score, score_agreement, trace_gaps
from claimlens.circuits.kernels.induction import half_of, head_scores, stripe
from claimlens.circuits.kernels.projection_loss import check_keep, loss_change, loss_changes
from claimlens.circuits.kernels.signals import signal_variants
from claimlens.circuits.kernels.unembedding_bias import bias_extremes, bias_frequency_correlation
from claimlens.circuits.kernels.weights import require_tied
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.weight_figures import names_figure

_MOVER = Head(2, 0)
_SCORES = {Head(0, i): float(i) for i in range(5)}


def _composed(k: int = 1, prompts: Prompts | None = None) -> object:
    return compositions(micro.bridge(), prompts or names(), [FIRST], [LAST], k)


def _nobody_reads() -> object:
    return compositions(micro.bridge(), names(), [LAST], [FIRST]).best_receiver()


def _doubled() -> Any:
    return edited(micro.bridge(), Edit("blocks.1.hook_resid_pre", lambda x: 2 * x, "twice"))


def _capped() -> object:
    model = changed(lambda raw: None)
    model.cfg.output_logits_soft_cap = 30.0
    return decompose(model, clean())


def _one_half() -> Prompts:
    whole = repeated().clean
    return replace(whole, tokens=whole.tokens[:, :20], lengths=whole.lengths * 0 + 20, positions={})


def _other_s2() -> object:
    tokens = clean().tokens.clone()
    tokens[0, clean().at("S2")[0, 0]] = 5
    return signal_variants(replace(clean(), tokens=tokens))


def _sure() -> object:
    """A model that predicts one token whatever it reads, on prompts of that token."""

    def one_token(raw: Any) -> None:
        raw.ln_f.bias.copy_(200 * raw.wte.weight[7])

    prompts = replace(clean(), tokens=torch.full_like(clean().tokens, 7))
    return loss_changes(changed(one_token), prompts, "nothing", proportional=True)


ENTRIES = (
    Entry(
        lambda _: attention_score(micro.bridge(), clean(), SOME, "S1", "END"),
        mend="Ask for the score from the later position to the earlier one.",
    ),
    Entry(lambda _: stripe(micro.bridge(), clean(), back=99)),
    Entry(
        lambda _: head_scores(micro.bridge(), _one_half(), "induction"),
        mend="Use prompts in which tokens repeat, as `repeated_tokens`.",
    ),
    Entry(lambda _: half_of(repeated().shuffled(0).clean)),
    Entry(lambda _: senders_before([NOWHERE], FIRST), mend="Choose a receiver in a later layer."),
    Entry(lambda _: _nobody_reads()),
    Entry(lambda _: compositions(micro.bridge(), names(), [], None)),
    Entry(lambda _: composition_norm(silent(), SOME, LAST, "query")),
    Entry(lambda _: _composed(k=0)),
    Entry(lambda _: _composed(prompts=names().select(torch.tensor([0, 0, 1])))),
    Entry(lambda _: composes(gemma(), names(), Head(0, 0), Head(1, 0))),
    Entry(lambda _: eigenvalue_score(silent(), SOME)),
    Entry(
        lambda _: eigenvalue_score(planted(), _MOVER),
        mend='Take it through the embedding: `through="W_E"`.',
    ),
    Entry(lambda _: trace_gaps(silent(), 1)),
    Entry(lambda _: score_agreement(_SCORES, {FIRST: 1.0})),
    Entry(lambda _: score_agreement(_SCORES, dict.fromkeys(_SCORES, 0.5))),
    Entry(lambda _: require_mlp0(planted())),
    Entry(lambda _: require_tied(planted())),
    Entry(lambda _: unchecked(effective_embedding)(micro.bridge(), "W_E2")),
    Entry(lambda _: bias_extremes(llama(), 7)),
    Entry(lambda _: bias_frequency_correlation(micro.bridge(), torch.tensor([1, 2, 2]))),
    Entry(lambda _: names_figure("OV into QK", ["one", "two"], torch.zeros(3, 3))),
    Entry(lambda _: Counted(at_least=1.5)),
    Entry(lambda _: effect_map("title", [["w"] * 9], torch.zeros(2, 3, 2, 5), [SOME])),
    Entry(lambda _: cspa_kl(micro.bridge(), repeated().clean, SOME, share=1.5)),
    Entry(lambda _: cspa_kl(micro.bridge(), clean().select(torch.tensor([0])), SOME)),
    Entry(lambda _: decompose(micro.bridge(), replace(clean(), answer=None))),
    Entry(lambda _: decompose(micro.bridge(), replace(clean(), wrong_answer=None), "logit_diff")),
    Entry(lambda _: decompose(_doubled(), clean())),
    Entry(lambda _: _capped()),
    Entry(lambda _: one_position(repeated().clean, "REPEAT")),
    Entry(lambda _: unchecked(split)(torch.ones(3, 4), torch.ones(1, 4))),
    Entry(lambda _: check_keep("everything")),
    Entry(lambda _: loss_change(micro.bridge(), clean(), SOME, "nothing", at="BOS")),
    Entry(lambda _: _sure()),
    Entry(lambda _: _other_s2()),
)
