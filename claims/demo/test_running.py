"""Running a model: head values ablated, and a greedy continuation."""

from contextlib import suppress
from dataclasses import replace

import pytest

from claimlens.circuits import (
    Head,
    cache,
    continue_text,
    generate,
    in_force,
    matching,
    run_module,
    without_last,
    zero_ablate,
    zero_values,
    zeroed,
)
from claimlens.circuits.figures import Table
from claimlens.circuits.kernels.cache import Edit


def told_after(model, decode, tokens, lengths):
    """The text of each prompt, and the three tokens that the model says next."""
    prompts = [row[:n].tolist() for row, n in zip(tokens, lengths, strict=False)]
    said = [continue_text(model, ids, decode, 3, temperature=0).pieces for ids in prompts]
    return [(decode(ids), " ".join(pieces)) for ids, pieces in zip(prompts, said, strict=True)]


@pytest.mark.claim("demo/values-are-z", kind="identity", finding="demo/loss-ablate-v-0.8")
def test_ablating_a_heads_values_is_ablating_its_z(model, ioi, measure):
    """With a head's values at zero its z is zero, so both ablations give the same logits to the
    last bit; not applicable where heads share their values."""
    head = Head(model.cfg.n_layers - 1, 0)

    def differ(p):
        by_values = cache(zero_values(model, head), p.clean).logits
        return (by_values - cache(zero_ablate(model, head), p.clean).logits).abs().amax((1, 2))

    few = ioi.select(range(16))
    assert measure(differ, on=few, unit="logits", exact=True) <= 0


@pytest.mark.claim("demo/continues-a-repeat", kind="behaviour", finding="demo/induction-loss")
def test_a_greedy_continuation_repeats_the_repetition(
    model, loaded_model, repeated_tokens, measure, figure
):
    """Cut three tokens before the end of a repetition and continued greedily, two or three of the
    three are right in at least two prompts of ten."""

    def most_right(p):
        told = generate(model, without_last(p.clean, 3), 3, temperature=0)
        wanted = p.clean.tokens.gather(1, p.clean.at("REPEAT")[:, -3:])
        return (told == wanted).sum(1) >= 2

    begun = without_last(repeated_tokens.clean, 3)
    decode = loaded_model.vocabulary.tokenizer.decode
    rows = told_after(model, decode, begun.tokens[:4], begun.lengths)
    figure(Table("Greedy continuations", ("prompt", "continuation"), rows))
    assert measure(most_right, on=repeated_tokens, unit="share of prompts") >= 0.2


@pytest.mark.claim("demo/hooks-leave-nothing", kind="identity", source="seed 002, hook points")
def test_hooks_leave_nothing_behind(model, ioi, measure):
    """With every MLP set to zero within a block of code, and again after an edit that failed, the
    model gives the logits it gave before, to the last bit."""
    mlps = matching(model, "blocks.*.hook_mlp_out")
    tokens = ioi.clean.tokens[:16]

    def broken(value):
        raise ZeroDivisionError

    before = run_module(model, tokens).output
    with in_force(model, *(replace(zeroed(name), noop=True) for name in mlps)):
        model(tokens)
    with suppress(ZeroDivisionError), in_force(model, Edit(mlps[0], broken, "a failing edit")):
        model(tokens)
    change = (run_module(model, tokens).output - before).abs().amax((1, 2))
    assert measure(change, on=ioi.select(range(16)), unit="logits", exact=True) <= 0
