"""IOI by path patching: which heads speak to the logits, and which to the name movers."""

from dataclasses import replace

import pytest
import torch

from claimlens.circuits import (
    attention,
    attribute,
    correlation,
    knockout,
    logit_diff,
    margin_over_others,
    path_effect,
    path_effects,
    path_patch,
)

COPY_AS_WELL = ("ioi/backup_name_mover", "induction/induction_head")


@pytest.mark.claim("ioi/name-movers-by-path", kind="mechanism", finding="ioi/name-movers")
@pytest.mark.role("ioi/name_mover", shared_with=COPY_AS_WELL)
def test_name_movers_speak_to_the_logits(model, ioi, head, measure):
    """With a name mover's output of ABC prompts on its path to the logits, the other heads
    frozen, a twentieth of the logit difference or more is gone."""
    full = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    path = measure(lambda p: path_effect(model, p.clean, p.corrupted, head), on=ioi, unit="logits")
    assert path / full <= -0.05
    assert full >= 1.0


@pytest.mark.claim(
    "ioi/name-movers-are-the-top-by-path",
    kind="mechanism",
    finding="ioi/name-movers",
    expected={"default": "refuted"},
)
@pytest.mark.role("ioi/name_mover")
def test_no_other_head_speaks_louder_to_the_logits(model, ioi, heads, measure):
    """No other head's path to the logits carries as much of the logit difference as each of the
    name movers' does."""
    margin = measure(
        lambda p: margin_over_others(-path_effects(model, p.clean, p.corrupted), heads),
        on=ioi,
        unit="logits",
    )
    assert margin >= 0.1


@pytest.mark.claim(
    "ioi/s-inhibition-through-queries", kind="mechanism", finding="ioi/s-inhibition-query"
)
@pytest.mark.role("ioi/s_inhibition")
def test_s_inhibition_works_through_the_movers_queries(model, ioi, heads, roles, measure):
    """With the S-inhibition heads' output of ABC prompts on its way into the name movers'
    queries alone, the first mover looks less at the indirect object and more at the subject."""
    movers = roles["ioi/name_mover"]

    def shift(p, src):
        patched = path_patch(model, p.clean, p.corrupted, heads, movers, "q")
        after = attention(patched, p.clean, movers[0], "END", src)
        return after - attention(model, p.clean, movers[0], "END", src)

    assert measure(lambda p: shift(p, "IO"), on=ioi, unit="probability") <= -0.1
    assert measure(lambda p: shift(p, "S1"), on=ioi, unit="probability") >= 0.1


@pytest.mark.claim(
    "ioi/duplicate-token-through-keys",
    kind="mechanism",
    source="Wang et al. 2022, arXiv:2211.00593, section 3.3: duplicate-token heads speak to the "
    "S-inhibition heads at S2; that they do by keys is how the planted circuit is made",
)
@pytest.mark.role("ioi/duplicate_token")
def test_duplicate_token_heads_work_through_the_s_inhibition_keys(
    model, ioi, heads, roles, measure
):
    """With the duplicate-token heads' output of ABC prompts on its way into the S-inhibition
    heads' keys alone, a logit of the logit difference or more is gone, and the first of these
    heads looks less at S2, by a tenth or more."""
    readers = roles["ioi/s_inhibition"]

    def turned(p):
        patched = path_patch(model, p.clean, p.corrupted, heads, readers, "k")
        after = attention(patched, p.clean, readers[0], "END", "S2")
        return after - attention(model, p.clean, readers[0], "END", "S2")

    path = measure(
        lambda p: path_effect(model, p.clean, p.corrupted, heads, readers, "k"),
        on=ioi,
        unit="logits",
    )
    assert path <= -1.0
    assert measure(turned, on=ioi, unit="probability") <= -0.1


@pytest.mark.claim("ioi/backup-by-path", kind="mechanism", finding="ioi/backup-name-movers")
@pytest.mark.role("ioi/backup_name_mover", shared_with=COPY_AS_WELL)
def test_backup_heads_speak_up_when_the_movers_are_out(model, ioi, abc, head, roles, measure):
    """With the name movers knocked out, a backup head's direct path carries at least 2% of what
    is left of the logit difference, and at least 0.1 logits more than before."""
    movers = roles["ioi/name_mover"]

    def left(p):
        return knockout(model, p.clean, movers, "template mean", abc)

    def carried(m, p):
        return -path_effects(m, p.clean, p.corrupted, "frozen")[:, head.layer, head.index]

    remaining = measure(lambda p: logit_diff(left(p), p.clean), on=ioi, unit="logits")
    before = measure(lambda p: carried(model, p), on=ioi, unit="logits")
    after = measure(lambda p: carried(left(p), p), on=ioi, unit="logits")
    assert after - before >= 0.1
    assert after / remaining >= 0.02
    assert remaining >= 0.5


@pytest.mark.claim(
    "ioi/attention-tells-the-logit", kind="mechanism", finding="ioi/attention-logit-correlation"
)
@pytest.mark.role("ioi/name_mover", shared_with=COPY_AS_WELL)
def test_the_more_a_mover_looks_at_a_name_the_more_it_raises_it(model, ioi, head, measure):
    """Over both names of every prompt, a name mover's attention to a name and what it adds to
    that name's logit are correlated by more than one half."""

    def share(p):
        other = replace(p.clean, answer=p.clean.wrong_answer, wrong_answer=p.clean.answer)
        looks = [attention(model, p.clean, head, "END", src) for src in ("IO", "S1")]
        raises = [attribute(model, names, head, "answer") for names in (p.clean, other)]
        return correlation(torch.stack(looks, 1), torch.stack(raises, 1))

    assert measure(share, on=ioi, unit="correlation") >= 0.5
