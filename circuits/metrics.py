"""Metrics: one value per prompt, never a silent mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from claimlens.circuits.kernels.cache import Model, cache, intact
from claimlens.circuits.kernels.knockout import Kind, Node, Nodes, isolate, knockout, without
from claimlens.circuits.parts import Head, Position, Prompts
from claimlens.circuits.verdict import NotMeasured

MIN_GAP = 0.1
"""Below this gap between clean and corrupted [logits], a share of it is not measured."""


def logit_diff(model: Model, prompts: Prompts) -> Float[Tensor, " batch"]:
    """Logit of the answer minus logit of the wrong answer, after END [logits].

    The metric of Wang et al. 2022, section 2.
    """
    answer, wrong = answer_tokens(prompts)
    logits = end_logits(model, prompts)
    rows = torch.arange(len(prompts), device=logits.device)
    return logits[rows, answer] - logits[rows, wrong]


def correct(model: Model, prompts: Prompts) -> Bool[Tensor, " batch"]:
    """Whether the answer's logit is above the wrong answer's: its mean is the accuracy."""
    return logit_diff(model, prompts) > 0


def end_logits(model: Model, prompts: Prompts) -> Float[Tensor, "batch d_vocab"]:
    """Logits after the END position."""
    return cache(model, prompts).logits_at(prompts.at("END"))[:, 0]


def answer_loss(model: Model, prompts: Prompts) -> Float[Tensor, " batch"]:
    """Minus the log probability of the answer after END [nats]."""
    if prompts.answer is None:
        raise ValueError(
            "these prompts have no answers; use a prompt set with answers, as `quotes`"
        )
    log_probs = end_logits(model, prompts).log_softmax(-1)
    return -log_probs.gather(1, prompts.answer[:, None])[:, 0]


def odds_against(model: Model, prompts: Prompts) -> Float[Tensor, " batch"]:
    """The log odds against the answer after END, log((1 - p) / p) [nats].

    Where the model is sure the loss hardly moves (p from .999 to .99 costs .009 nats); the log
    odds do (2.3), and where it is unsure they rise as the loss does.
    """
    if prompts.answer is None:
        raise ValueError(
            "these prompts have no answers; use a prompt set with answers, as `quotes`"
        )
    logits = end_logits(model, prompts)
    others = logits.scatter(1, prompts.answer[:, None], -torch.inf).logsumexp(1)
    return others - logits.gather(1, prompts.answer[:, None])[:, 0]


def loss(
    model: Model, prompts: Prompts, at: str | Position | None = None
) -> Float[Tensor, " batch"]:
    """Mean next-token loss of each prompt [nats/token].

    With `at`, only the predictions *of* the tokens at that label (from the position before each);
    without, of every token but the first.
    """
    if at is not None:
        predicted = prompts.at(at)
        if bool((predicted == 0).any()):
            raise ValueError(f"position {at} includes the first token, which nothing predicts")
        return token_nats(model, prompts, predicted).mean(1)
    nats = token_nats(model, prompts)
    inside = torch.arange(1, prompts.tokens.shape[1], device=nats.device) < prompts.lengths[:, None]
    return (nats * inside).sum(1) / inside.sum(1)


def loss_by_position(model: Model, prompts: Prompts) -> Float[Tensor, "batch predicted"]:
    """Next-token loss of every token but the first [nats].

    Column i is the prediction made at position i, of the token at i + 1, as in the TransformerLens
    demo (seed 002, loss_by_position). Raises ValueError where prompts differ in length.
    """
    if len(set(prompts.lengths.tolist())) > 1:
        raise ValueError(
            "prompts differ in length, so a position is not the same in each; select those of one "
            "length, or use loss(model, prompts, at=label)"
        )
    return token_nats(model, prompts)[:, : int(prompts.lengths[0]) - 1]


def token_nats(
    model: Model, prompts: Prompts, predicted: Int[Tensor, "batch slot"] | None = None
) -> Float[Tensor, "batch slot"]:
    """Loss of the predictions of the tokens at these positions, or of all but the first [nats].

    Entries of padding mean nothing.
    """
    run, tokens = cache(model, prompts), prompts.tokens
    if predicted is None:
        every = torch.arange(1, tokens.shape[1], device=tokens.device)
        predicted = every.expand(len(tokens), -1)
    following = tokens.gather(1, predicted)[..., None]
    nats = [
        -logits.log_softmax(-1).gather(-1, following[rows])[..., 0]
        for rows, logits in run.by_rows(predicted - 1, int(intact(model).cfg.d_vocab))
    ]
    return torch.cat(nats)


def kl_div(
    model: Model, prompts: Prompts, of: Model, at: str | Position | None = None
) -> Float[Tensor, " batch"]:
    """KL(of || model): what `model`'s next-token distribution loses of that of `of` [nats/token].

    The mean over the predictions made *after* the positions of a label, as `at="END"`; without
    one, after every token of a prompt. `kl_div(zero_ablate(m, head), prompts, of=m)`.
    """
    theirs, ours = cache(of, prompts), cache(model, prompts)
    places = [torch.arange(n) for n in prompts.lengths.tolist()] if at is None else prompts.at(at)
    nats = []
    for row, place in enumerate(places):  # a prompt at a time: logits are big
        before, after = (
            run.read_out(run.final[row, place]).log_softmax(-1) for run in (theirs, ours)
        )
        nats.append((before.exp() * (before - after)).sum(-1).mean())
    return torch.stack(nats)


def noising(
    found: Float[Tensor, " batch"],
    clean: Float[Tensor, " batch"],
    corrupted: Float[Tensor, " batch"],
    min_gap: float = MIN_GAP,
) -> Float[Tensor, " batch"]:
    """How much of what the clean run has is lost: 0 as in the clean run, -1 as in the corrupted
    one [fraction].

    Three logit differences per prompt, all scored on the clean answers. Each prompt's change is
    divided by the mean gap between clean and corrupted, so that the mean is that of seed 000
    (`noising_ioi_metric`). The gap is an estimate too: where an interval is wanted, divide
    measurements instead. Raises NotMeasured where the gap is below `min_gap` [logits].
    """
    gap = float((clean - corrupted).mean())
    if not abs(gap) >= min_gap:
        raise NotMeasured(
            f"clean and corrupted are {gap:.3g} apart, less than {min_gap:g}: a share of that says "
            "nothing; report the difference itself"
        )
    return (found - clean) / gap


def denoising(
    found: Float[Tensor, " batch"],
    clean: Float[Tensor, " batch"],
    corrupted: Float[Tensor, " batch"],
    min_gap: float = MIN_GAP,
) -> Float[Tensor, " batch"]:
    """How much of what the clean run has is restored: 1 as in the clean run, 0 on average in the
    corrupted one [fraction].

    One more than `noising` (seed 000, `denoising_ioi_metric`).
    """
    return noising(found, clean, corrupted, min_gap) + 1


def margin_over_others(
    scores: Float[Tensor, "batch layer head"], heads: Sequence[Head]
) -> Float[Tensor, " batch"]:
    """How far the weakest of `heads` is above the strongest other head, prompt by prompt.

    Weakest and strongest by mean score. Choosing them on the same prompts can only lower the
    margin, so an interval above 0 shows that these heads are the top of all.
    """
    if not heads:
        raise ValueError("no heads given; a superlative needs at least one head in its role")
    flat = rearrange(scores, "batch layer head -> batch (layer head)")
    mine = [head.layer * scores.shape[2] + head.index for head in heads]
    means = flat.mean(0)
    others = torch.ones_like(means, dtype=torch.bool)
    others[mine] = False
    weakest = mine[int(means[mine].argmin())]
    strongest = int(torch.where(others, means, -torch.inf).argmax())
    return flat[:, weakest] - flat[:, strongest]


def excess_over_others(
    scores: Float[Tensor, "batch layer head"], heads: Sequence[Head]
) -> Float[Tensor, " batch"]:
    """Mean score of `heads` less the mean score of all other heads, prompt by prompt.

    Raises ValueError where there are no heads, or no others.
    """
    layers, size = scores.shape[1:]
    mine = torch.zeros(layers, size, dtype=torch.bool, device=scores.device)
    for head in heads:
        mine[head.layer, head.index] = True
    if not bool(mine.any()) or bool(mine.all()):
        raise ValueError(f"{len(heads)} of {mine.numel()} heads given: a contrast needs both sides")
    return scores[:, mine].mean(1) - scores[:, ~mine].mean(1)


def faithfulness_gap(
    model: Model, prompts: Prompts, circuit: Nodes, kind: Kind, source: Prompts | None = None
) -> Float[Tensor, " batch"]:
    """F(M) - F(C): what the logit difference loses where only the circuit is left [logits].

    Faithfulness of Wang et al. 2022, section 4.1; over `logit_diff` it is the share that is lost.
    """
    alone = isolate(model, prompts, circuit, kind, source)
    return logit_diff(model, prompts) - logit_diff(alone, prompts)


def completeness_gap(
    model: Model,
    prompts: Prompts,
    circuit: Nodes,
    removed: Nodes,
    kind: Kind,
    source: Prompts | None = None,
) -> Float[Tensor, " batch"]:
    """F(M - K) - F(C - K) for a subset K = `removed` of the circuit [logits].

    Completeness of Wang et al. 2022, section 4.2: in a complete circuit it is near 0 for every K.
    """
    rest = without(circuit, removed)
    model_left = knockout(model, prompts, removed, kind, source)
    circuit_left = isolate(model, prompts, rest, kind, source)
    return logit_diff(model_left, prompts) - logit_diff(circuit_left, prompts)


def minimality_gap(
    model: Model,
    prompts: Prompts,
    circuit: Nodes,
    node: Head | Node,
    removed: Nodes,
    kind: Kind,
    source: Prompts | None = None,
) -> Float[Tensor, " batch"]:
    """F(C - K) - F(C - K - v): what a node v adds where K is already gone [logits].

    Minimality of Wang et al. 2022, section 4.3: every node needs a K for which it is far from 0.
    """
    rest = without(circuit, removed)
    with_node = isolate(model, prompts, rest, kind, source)
    without_node = isolate(model, prompts, without(rest, [node]), kind, source)
    return logit_diff(with_node, prompts) - logit_diff(without_node, prompts)


def correlation(
    x: Float[Tensor, "batch point"], y: Float[Tensor, "batch point"]
) -> Float[Tensor, " batch"]:
    """Each prompt's share of Pearson's correlation: the mean over prompts is the correlation.

    The products of standard scores over all points of all prompts, averaged within a prompt. Raises
    NotMeasured where either side has no spread.
    """
    scores = []
    for values in (x.double(), y.double()):
        spread = values.std(correction=0)
        if not float(spread) > 0:
            raise NotMeasured("a correlation needs spread; one side is the same everywhere")
        scores.append((values - values.mean()) / spread)
    return (scores[0] * scores[1]).mean(1)


def answer_tokens(prompts: Prompts) -> tuple[Int[Tensor, " batch"], Int[Tensor, " batch"]]:
    """Token ids of the answers and wrong answers; raises ValueError where there are none."""
    if prompts.answer is None or prompts.wrong_answer is None:
        raise ValueError("these prompts have no answers; use a prompt set with answers, as `ioi`")
    return prompts.answer, prompts.wrong_answer
