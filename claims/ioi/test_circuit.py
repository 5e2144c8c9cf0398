"""The IOI circuit as a whole: is it enough, is it all, is each part of it needed?

The circuit is every head that has a role in the model; all other heads are knocked out, or some of
its own. MLPs stay.
"""

import pytest

from claimlens.circuits import (
    attribute,
    completeness_gap,
    faithfulness_gap,
    incomplete_subset,
    knockout,
    logit_diff,
    minimality_gap,
    path_effect,
    resample_ablate,
)

OTHERS = (
    "ioi/backup_name_mover",
    "ioi/duplicate_token",
    "copy_suppression/negative_head",
    "induction/induction_head",
    "induction/previous_token",
)


def circuit_of(roles):
    """Every head with a role."""
    return sorted({head for heads in roles.heads.values() for head in heads})


@pytest.mark.claim(
    "ioi/faithfulness",
    kind="mechanism",
    finding="ioi/faithfulness",
    expected={"default": "refuted"},
)
def test_the_circuit_alone_does_the_task(model, ioi, abc, roles, measure):
    """With every head outside the circuit at its mean over ABC prompts of the same template, the
    logit difference is what it was to within a fifth, in either direction; with the circuit's
    heads so instead, a fifth of it is left at most."""
    circuit = circuit_of(roles)

    def gone(p):
        return knockout(model, p.clean, circuit, "template mean", abc)

    full = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    lost = measure(
        lambda p: faithfulness_gap(model, p.clean, circuit, "template mean", abc),
        on=ioi,
        unit="logits",
    )
    left = measure(lambda p: logit_diff(gone(p), p.clean), on=ioi, unit="logits")
    assert lost / full <= 0.2
    assert full >= 1.0
    assert lost / full >= -0.2
    assert left / full <= 0.2


@pytest.mark.claim(
    "ioi/faithfulness-by-mean",
    kind="mechanism",
    source="Miller et al. 2024, arXiv:2407.08734: faithfulness depends on the ablation",
)
def test_the_circuit_alone_does_the_task_by_plain_means(model, ioi, abc, roles, measure):
    """The same with one mean for each head over all ABC prompts and positions."""
    circuit = circuit_of(roles)
    full = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    lost = measure(
        lambda p: faithfulness_gap(model, p.clean, circuit, "mean", abc), on=ioi, unit="logits"
    )
    left = measure(
        lambda p: logit_diff(knockout(model, p.clean, circuit, "mean", abc), p.clean),
        on=ioi,
        unit="logits",
    )
    assert lost / full <= 0.2
    assert full >= 1.0
    assert lost / full >= -0.2
    assert left / full <= 0.2


@pytest.mark.claim(
    "ioi/completeness",
    kind="mechanism",
    finding="ioi/incompleteness",
    expected={"gpt2": "refuted", "default": "refuted"},
)
def test_the_circuit_is_complete(model, ioi, abc, roles, measure):
    """Without any part of it, the circuit does what the model does without that part: even for
    the worst part that a greedy search finds (on other prompts), within a fifth of the logit
    difference."""
    circuit = circuit_of(roles)
    seen, unseen = ioi.select(range(12)), ioi.select(range(12, len(ioi)))
    worst = incomplete_subset(model, seen.clean, circuit, "template mean", abc)
    full = measure(lambda p: logit_diff(model, p.clean), on=unseen, unit="logits")
    gap = measure(
        lambda p: completeness_gap(model, p.clean, circuit, worst, "template mean", abc),
        on=unseen,
        unit="logits",
    )
    assert gap / full <= 0.2
    assert full >= 1.0
    assert gap / full >= -0.2


def adds(model, p, abc, roles, head, removed):
    """What `head` adds to the circuit (with `head`) without `removed` [logits]."""
    circuit = sorted({*circuit_of(roles), head})
    gone = [other for other in removed if other != head]
    return minimality_gap(model, p.clean, circuit, head, gone, "template mean", abc)


@pytest.mark.claim("ioi/minimality-name-movers", kind="mechanism", finding="ioi/minimality")
@pytest.mark.role("ioi/name_mover", shared_with=("ioi/s_inhibition", *OTHERS))
def test_each_name_mover_is_needed(model, ioi, abc, head, roles, measure):
    """In the circuit without the other name movers and the backups, a name mover adds at least
    1% of the logit difference; a head from outside, added to the circuit, does not."""
    gone = (*roles["ioi/name_mover"], *roles.get("ioi/backup_name_mover"))
    full = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    added = measure(lambda p: adds(model, p, abc, roles, head, gone), on=ioi, unit="logits")
    assert added / full >= 0.01
    assert full >= 1.0


@pytest.mark.claim("ioi/minimality-s-inhibition", kind="mechanism", finding="ioi/minimality")
@pytest.mark.role("ioi/s_inhibition", shared_with=("ioi/name_mover", *OTHERS))
def test_each_s_inhibition_head_is_needed(model, ioi, abc, head, roles, measure):
    """In the circuit without the other S-inhibition heads, an S-inhibition head adds at least 1%
    of the logit difference; a head from outside, added to the circuit, does not."""
    gone = roles["ioi/s_inhibition"]
    full = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    added = measure(lambda p: adds(model, p, abc, roles, head, gone), on=ioi, unit="logits")
    assert added / full >= 0.01
    assert full >= 1.0


@pytest.mark.claim(
    "ioi/self-repair",
    kind="mechanism",
    finding="ioi/knockout-name-movers",
    expected={"default": "refuted"},
)
@pytest.mark.role("ioi/name_mover")
def test_without_the_movers_most_of_the_logit_diff_is_left(model, ioi, abc, heads, measure):
    """The name movers write half of the logit difference or more, and with all of them knocked
    out at least 60% of it is left all the same."""
    full = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    written = measure(
        lambda p: sum(attribute(model, p.clean, head, "logit_diff") for head in heads),
        on=ioi,
        unit="logits",
    )
    left = measure(
        lambda p: logit_diff(knockout(model, p.clean, heads, "template mean", abc), p.clean),
        on=ioi,
        unit="logits",
    )
    assert written / full >= 0.5
    assert left / full >= 0.6
    assert full >= 1.0


@pytest.mark.claim(
    "self-repair/layernorm",
    kind="mechanism",
    finding="self-repair/layernorm",
    expected={"planted": "refuted"},
)
def test_the_final_layernorm_repairs_a_part(model, ioi, roles, measure):
    """Where the name movers write what they write on ABC prompts, all else the same, the final
    LayerNorm's scale falls too and gives back at least 5% of what is lost."""
    movers = roles["ioi/name_mover"]

    def written(m, p):
        return sum(attribute(m, p.clean, h, "logit_diff", scale_of=model) for h in movers)

    def lost(p):
        return written(model, p) - written(resample_ablate(model, movers, p.corrupted), p)

    def lost_with_scale(p):
        return -path_effect(model, p.clean, p.corrupted, movers, mlps="frozen")

    frozen = measure(lost, on=ioi, unit="logits")
    free = measure(lost_with_scale, on=ioi, unit="logits")
    assert (frozen - free) / frozen >= 0.05
    assert frozen >= 0.3
