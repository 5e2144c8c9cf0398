"""Checks of kernels on any architecture: attention, patching, knock-outs, metrics.

A check takes a `Case` and asserts; the referee is the raw Hugging Face model wherever it can be
asked, else an identity that has one answer, or an edit made by hand.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from claimlens.ci.selftests import architectures
from claimlens.ci.selftests.kernels.every_case import HEAD, ROUNDING, Case, Check, zeroing
from claimlens.ci.selftests.kernels.samples import agree
from claimlens.circuits.kernels.ablate import resample_ablate, zero_ablate
from claimlens.circuits.kernels.attention import attention_sum
from claimlens.circuits.kernels.attribution_patching import attribution_patching, screen_heads
from claimlens.circuits.kernels.cache import Edit, cache, edited
from claimlens.circuits.kernels.copy_suppression import source_effect, source_effects
from claimlens.circuits.kernels.cspa import cspa_kl, cspa_kls
from claimlens.circuits.kernels.directions import answer_direction, split, token_directions
from claimlens.circuits.kernels.generate import continue_text, generate
from claimlens.circuits.kernels.hooked import replaced, run_module, zeroed
from claimlens.circuits.kernels.incompleteness import incomplete_subset
from claimlens.circuits.kernels.induction import head_pattern, head_scores
from claimlens.circuits.kernels.input_attribution import input_attribution
from claimlens.circuits.kernels.knockout import Node, isolate, knockout
from claimlens.circuits.kernels.next_tokens import top_tokens
from claimlens.circuits.kernels.padding import padding_gap
from claimlens.circuits.kernels.patch import patch_residual, zero_region
from claimlens.circuits.kernels.query_grid import query_grid
from claimlens.circuits.kernels.query_intervention import inject
from claimlens.circuits.kernels.query_sweep import attention_readouts, sweep
from claimlens.circuits.kernels.signals import signal_coefficients, signal_variants
from claimlens.circuits.kernels.training import over_seen_guess
from claimlens.circuits.metrics import (
    answer_tokens,
    completeness_gap,
    faithfulness_gap,
    kl_div,
    logit_diff,
    loss_by_position,
    minimality_gap,
)
from claimlens.circuits.parts import Head

OTHER = Head(0, 1)


def attention_of_a_head(case: Case) -> None:
    pattern = case.seen(case.clean, HEAD.layer)[:, HEAD.index]
    found = head_pattern(case.model, case.clean, HEAD)
    inside = torch.arange(found.shape[1]) < case.clean.lengths[:, None]
    agree(found[inside], pattern[inside], ROUNDING)
    rows, end = case.end(case.clean)
    io, s1 = (case.clean.at(label)[:, 0] for label in ("IO", "S1"))
    expected = pattern[rows, end, io] - pattern[rows, end, s1]
    agree(attention_sum(case.model, case.clean, HEAD, "IO-S1"), expected, ROUNDING)


def scores_by_head(case: Case) -> None:
    p = case.repeated.clean
    expected = [
        case.seen(p, layer).diagonal(offset=-1, dim1=-2, dim2=-1).mean(-1)
        for layer in range(case.model.cfg.n_layers)
    ]
    agree(head_scores(case.model, p, "previous_token"), torch.stack(expected, 1), ROUNDING)


def next_tokens(case: Case) -> None:
    logits = case.raw(case.clean)[case.end(case.clean)]
    found = top_tokens(case.model, case.clean, 5)
    best = logits.topk(5, dim=1)
    assert torch.equal(found.ids, best.indices)
    agree(found.logits, best.values - logits.mean(1, keepdim=True), ROUNDING)
    agree(found.probabilities, logits.softmax(1).gather(1, best.indices), ROUNDING)


def continuation(case: Case) -> None:
    ids = case.clean.tokens[0, : int(case.clean.lengths[0])].tolist()
    for _ in range(2):
        ids.append(int(architectures.raw(case.name)(torch.tensor([ids])).logits[0, -1].argmax()))
    start = case.clean.tokens[0, : int(case.clean.lengths[0])].tolist()
    told = continue_text(case.model, start, str, 2, temperature=0)
    assert [*start, *told.ids] == ids
    assert generate(case.model, case.clean, 2, temperature=0)[0].tolist() == ids[-2:]


def losses(case: Case) -> None:
    p = case.repeated.clean
    nats = -case.raw(p)[:, :-1].log_softmax(-1).gather(-1, p.tokens[:, 1:, None])[..., 0]
    agree(loss_by_position(case.model, p), nats, ROUNDING)
    half = p.tokens.shape[1] // 2
    again = torch.stack([nats[row, p.at("REPEAT")[row] - 1].mean() for row in range(len(p))])
    expected = again - torch.tensor(float(half)).log()  # its tokens are distinct
    agree(over_seen_guess(case.model, case.repeated), expected, ROUNDING)


def divergence(case: Case) -> None:
    before = case.raw(case.clean)[case.end(case.clean)].log_softmax(-1)
    with zeroing(case, HEAD):
        after = case.raw(case.clean)[case.end(case.clean)].log_softmax(-1)
    expected = (before.exp() * (before - after)).sum(-1)
    found = kl_div(zero_ablate(case.model, HEAD), case.clean, of=case.model, at="END")
    agree(found, expected, ROUNDING)
    assert float(expected.max()) > 1e-3


def padding(case: Case) -> None:
    assert len(set(case.clean.lengths.tolist())) > 1
    assert float(padding_gap(case.model, case.clean).max()) < ROUNDING


def directions(case: Case) -> None:
    answer, wrong = answer_tokens(case.clean)
    found = answer_direction(case.model, case.clean)
    toward = token_directions(case.model, answer) - token_directions(case.model, wrong)
    agree(found, toward, 0.0)
    basis = torch.eye(architectures.WIDTH, dtype=torch.float64)
    logits = architectures.direct(architectures.raw(case.name), basis).T
    agree(found, logits[answer] - logits[wrong], ROUNDING)
    vectors = torch.randn(found.shape, generator=torch.Generator().manual_seed(0)).double()
    along, across = split(vectors, found)
    agree(along + across, vectors, 1e-12)
    agree((across * found).sum(-1), torch.zeros(len(found)).double(), 1e-9)


def knocked_out(case: Case) -> None:
    """One head: in the raw model; all but a circuit: the whole and the end points."""
    with zeroing(case, HEAD):
        expected = case.raw(case.clean)[case.end(case.clean)].log_softmax(-1)
    without = knockout(case.model, case.clean, [HEAD], "zero")
    found = cache(without, case.clean).logits[case.end(case.clean)].log_softmax(-1)
    agree(found, expected, ROUNDING)
    rest = [head for head in case.heads if head != HEAD]
    alone = isolate(case.model, case.clean, rest, "zero")
    assert torch.equal(cache(alone, case.clean).logits, cache(without, case.clean).logits)
    whole = isolate(case.model, case.clean, case.heads, "resample", case.other)
    assert torch.equal(cache(whole, case.clean).logits, cache(case.model, case.clean).logits)


def circuits(case: Case) -> None:
    """Faithfulness, minimality and the search, by their definitions from knock-outs."""
    m, p, source = case.model, case.clean, case.other
    circuit = [head for head in case.heads if head != OTHER]
    lost = logit_diff(m, p) - logit_diff(knockout(m, p, [OTHER], "resample", source), p)
    agree(faithfulness_gap(m, p, circuit, "resample", source), lost, 0.0)
    pair = logit_diff(knockout(m, p, [OTHER, HEAD], "resample", source), p)
    added = logit_diff(knockout(m, p, [OTHER], "resample", source), p) - pair
    agree(minimality_gap(m, p, circuit, HEAD, [], "resample", source), added, 0.0)
    few = [HEAD, Head(0, 0)]
    gaps = [completeness_gap(m, p, few, [head], "resample", source).mean().abs() for head in few]
    found = incomplete_subset(m, p, few, "resample", source, steps=1)
    assert found == (Node(few[int(torch.stack(gaps).argmax())]),)


def signals(case: Case) -> None:
    hook, (rows, end) = f"blocks.{HEAD.layer}.attn.hook_z", case.end(case.clean)
    effects, signs = [], []
    for variant in signal_variants(case.clean):
        z = cache(case.model, variant.prompts, [hook])[hook]

        def swap(old: Tensor, z: Tensor = z) -> Tensor:
            new = old.clone()
            new[rows, end, HEAD.index] = z[rows, end, HEAD.index]
            return new

        swapped = edited(case.model, Edit(hook, swap, "by hand", noop=True))
        effects.append(logit_diff(swapped, case.clean))
        signs.append([1.0, variant.position, variant.token])
    solved = torch.linalg.lstsq(torch.tensor(signs).double(), torch.stack(effects)).solution
    agree(signal_coefficients(case.model, case.clean, HEAD), solved[1:].T, 1e-9)


def screened(case: Case) -> None:
    """What ranks first is measured; a guess is the slope of what it guesses."""
    m, hook = case.model, f"blocks.{HEAD.layer}.attn.hook_z"
    guess = attribution_patching(m, case.clean, case.other)[:, HEAD.layer, HEAD.index]
    change = torch.zeros_like(cache(m, case.clean, [hook])[hook])
    change[:, :, HEAD.index] = (
        cache(m, case.other, [hook])[hook] - cache(m, case.clean, [hook])[hook]
    )[:, :, HEAD.index]
    up, down = (
        logit_diff(edited(m, Edit(hook, partial(torch.add, step), "a step")), case.clean)
        for step in (1e-2 * change, -1e-2 * change)
    )
    agree(guess, (up - down) / 2e-2, 1e-2 * float(guess.abs().max()))
    found = screen_heads(m, case.clean, case.other, 2)
    for head, exact in zip(found.first, found.exact.T, strict=True):
        whole = logit_diff(resample_ablate(m, head, case.other), case.clean)
        agree(exact, whole - logit_diff(m, case.clean), 0.0)


def hanging_on_tokens(case: Case) -> None:
    """Gradient times input of the raw model, whose embeddings are given to it."""
    raw, p = architectures.raw(case.name), case.clean
    embedded = raw.get_input_embeddings()(p.tokens).detach().requires_grad_()
    logits = raw(inputs_embeds=embedded).logits[case.end(p)]
    difference = [logits.gather(1, ids[:, None]).sum() for ids in answer_tokens(p)]
    (slope,) = torch.autograd.grad(difference[0] - difference[1], [embedded])
    expected = (embedded.detach() * slope).sum(-1)
    agree(input_attribution(case.model, p), expected, ROUNDING * float(expected.abs().max()))


def residual_stream(case: Case) -> None:
    clean, corrupted = case.swapped.clean, case.swapped.corrupted
    assert corrupted is not None
    depth = int(case.model.cfg.n_layers)
    swept = patch_residual(case.model, clean, corrupted, (0, 1, depth))
    region = zero_region(swept, clean, corrupted)
    assert bool(region.any())
    assert not bool(swept.effect[region].any())
    ends = patch_residual(case.model, clean, corrupted, (0, depth), ["S2", "END"])
    agree(ends.at(0, "S2"), ends.gap, ROUNDING)
    agree(ends.at(depth, "END"), ends.gap, ROUNDING)
    assert float(ends.gap.abs().min()) > 1e-3


def query_sweep(case: Case) -> None:
    """At scale 0 the clean run, at another what `inject` gives; see test_query_architectures."""
    vector = torch.linspace(-2, 3, architectures.WIDTH).double().repeat(len(case.clean), 1)
    found = sweep(case.model, case.clean, [HEAD], vector, [0.0, 2.0])["logit difference"][0]
    agree(found[0], logit_diff(case.model, case.clean), ROUNDING)
    by_hand = inject(case.model, case.clean, HEAD, vector, 2.0)
    agree(found[1], logit_diff(by_hand, case.clean), ROUNDING)
    assert float((found[1] - found[0]).abs().max()) > 1e-3
    looks = attention_readouts(["IO"])
    grid = query_grid(
        case.model, case.clean, [HEAD], {"v": vector}, [0.0, 2.0], "t", looks, "probability"
    )
    readout = looks["IO"](by_hand, case.clean, HEAD).mean()
    assert abs(grid.rows[0][0].lines[0].y[1] - float(readout)) < ROUNDING


def sources(case: Case) -> None:
    """What the sources add at END, from values, W_O and W_U of the bridge."""
    bridge, p = case.model, case.clean
    found = source_effects(bridge, p)
    agree(found.per_source.sum(-1), found.per_destination.sum(-1), 1e-9)
    agree(source_effect(bridge, p, HEAD), found.per_sequence[:, HEAD.layer, HEAD.index], 1e-9)
    name, values = f"blocks.{HEAD.layer}.attn.hook_pattern", f"blocks.{HEAD.layer}.attn.hook_v"
    run = cache(bridge, p, [name, values, "ln_final.hook_scale"])
    rows, end = case.end(p)
    shared = HEAD.index * run[values].shape[2] // int(bridge.cfg.n_heads)
    moved = run[values][:, :, shared] @ bridge.W_O[HEAD.layer, HEAD.index]
    own = (moved * bridge.W_U.T[p.tokens]).sum(-1) / run["ln_final.hook_scale"][rows, end]
    inside = (torch.arange(own.shape[1]) > 0) & (torch.arange(own.shape[1]) <= end[:, None])
    expected = (run[name][rows, HEAD.index, end] * own * inside).sum(1).detach()
    agree(found.per_destination[rows, HEAD.layer, HEAD.index, end], expected, ROUNDING)


def preserving(case: Case) -> None:
    every = cspa_kls(case.model, case.repeated.clean, "ov")
    assert float(every.min()) > 0
    one = cspa_kl(case.model, case.repeated.clean, HEAD, "ov")
    agree(one, every[:, HEAD.layer, HEAD.index], 1e-9)


def hooks_on_a_module(case: Case) -> None:
    """A silent MLP, and a residual stream replaced by another prompt's."""
    name, p = f"blocks.{HEAD.layer}.mlp.hook_post", case.clean
    raw = architectures.raw(case.name)
    with architectures.hooked(architectures.mlp_projection(raw, HEAD.layer), torch.zeros_like):
        expected = case.raw(p)[case.end(p)].log_softmax(-1)
    found = run_module(case.model, p.tokens, edits=[zeroed(name)]).output
    agree(found[case.end(p)].log_softmax(-1), expected, ROUNDING)
    last = f"blocks.{case.model.cfg.n_layers - 1}.hook_resid_post"
    theirs = run_module(case.model, case.other.tokens, names=[last])
    swapped = run_module(case.model, p.tokens, edits=[replaced(last, theirs[last])])
    assert torch.equal(swapped.output, theirs.output)


CHECKS: dict[Check, str] = {
    attention_of_a_head: "head_pattern attention_sum",
    scores_by_head: "head_scores",
    next_tokens: "top_tokens",
    continuation: "continue_text generate",
    losses: "loss_by_position over_seen_guess seen_guess",
    divergence: "kl_div",
    padding: "padding_gap",
    directions: "split token_directions answer_direction",
    knocked_out: "knockout isolate",
    circuits: "incomplete_subset completeness_gap faithfulness_gap minimality_gap",
    signals: "signal_coefficients",
    screened: "screen_heads",
    hanging_on_tokens: "input_attribution",
    residual_stream: "patch_residual zero_region",
    query_sweep: "sweep query_grid attention_readouts",
    sources: "source_effect source_effects",
    preserving: "cspa_kl cspa_kls",
    hooks_on_a_module: "run_module zeroed replaced in_force matching",
}
"""Each check, and the kernels it is of."""
