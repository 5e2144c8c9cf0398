"""The scale on which interventions are read: clean and ABC prompts, scored on the clean answers."""

import pytest

from claimlens.circuits import (
    answer_direction,
    attention_sum,
    denoising,
    inject,
    logit_diff,
    noising,
    split,
    token_directions,
)
from claimlens.circuits.parts import Head


@pytest.mark.claim("query/clean-abc-gap", kind="behaviour", finding="backup/logit-diff")
def test_abc_prompts_know_nothing_of_the_clean_answers(model, ioi, measure):
    """Scored on the same answers, ABC prompts are a zero point: the gap between clean and ABC is
    at least nine tenths of the clean logit difference."""
    clean = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    abc = measure(lambda p: logit_diff(model, p.corrupted), on=ioi, unit="logits")
    assert clean - abc >= 1.0
    assert (clean - abc) / clean >= 0.9


@pytest.mark.claim("query/metric-calibration", kind="identity", finding="backup/metric-calibration")
def test_the_metrics_are_calibrated(model, ioi, measure):
    """The noising metric is 0 on the clean run and -1 on the ABC run, the denoising metric 1 and
    0: both are means over prompts, normalised by the mean gap."""

    def mean(metric, of):
        runs = {side: logit_diff(model, getattr(ioi, side)) for side in ("clean", "corrupted")}
        return metric(runs[of], runs["clean"], runs["corrupted"]).double().mean()

    for metric, of, point in (
        (noising, "clean", 0),
        (noising, "corrupted", -1),
        (denoising, "clean", 1),
        (denoising, "corrupted", 0),
    ):
        value = measure((mean(metric, of) - point).abs(), unit="fraction")
        assert value <= 1e-4


@pytest.mark.claim(
    "query/parts-add-up",
    kind="identity",
    source="linearity of attention scores in the normalised query input (Elhage et al. 2021)",
)
def test_the_effects_of_both_parts_add_up(model, ioi, measure):
    """With the LayerNorm's scale frozen, what a vector does to a head's scores is what its part
    along the answer's unembedding does plus what the orthogonal part does."""
    head = Head(model.cfg.n_layers - 1, 0)

    def error(p):
        whole = answer_direction(model, p.clean)
        parts = split(whole, token_directions(model, p.clean.answer))
        clean, *changed = (
            attention_sum(m, p.clean, head, "IO-S1", of="score")
            for m in (
                model,
                *(inject(model, p.clean, head, v, norm="frozen") for v in (whole, *parts)),
            )
        )
        effects = [score - clean for score in changed]
        return (effects[0] - effects[1] - effects[2]).abs()

    assert measure(error, on=ioi, unit="score", exact=True) <= 1e-3
