"""QK circuits, and OV circuits into them: what heads look for, and who tells them."""

from itertools import product

import pytest

from claimlens.circuits import composes, copies, qk_matches, qk_scores, senders_before
from claimlens.circuits.kernels.composition import composition_matrix, compositions
from claimlens.circuits.kernels.weights import qk_matrix, require_tied
from claimlens.circuits.weight_figures import KS, composition_figure, heads_figure, names_figure


@pytest.mark.claim(
    "weights/negative-heads-look-for-predicted",
    kind="weights",
    finding="copy/qk-diagonal",
    expected={"default": "refuted"},  # its negative heads have the queries of induction heads
)
@pytest.mark.role("copy_suppression/negative_head")
def test_negative_heads_look_for_the_predicted_name(model, names, head, measure, figure):
    """Where a name is predicted, a negative head looks for that name more than for any other, and
    lowers it."""
    circuit = qk_matrix(model, names.clean, head, query="W_U", key="W_EE")
    figure(names_figure(f"What {head} looks for where a name is predicted", names.texts, circuit))
    looked_for = measure(
        lambda p: qk_matches(model, p.clean, head, query="W_U", key="W_EE"),
        on=names,
        unit="share of names",
    )
    lowered = measure(
        lambda p: copies(model, p.clean, head, negative=True), on=names, unit="share of names"
    )
    assert looked_for >= 0.5
    assert lowered >= 0.25


@pytest.mark.claim(
    "weights/negative-heads-match-names",
    kind="weights",
    finding="backup/qk-top1",
    expected={"default": "refuted"},  # its negative heads have the queries of induction heads
)
@pytest.mark.role("copy_suppression/negative_head")
def test_negative_heads_match_a_name_with_itself(model, names, head, measure, figure):
    """Between effective embeddings, at least every tenth name is what a negative head's query for
    it matches best: the embedding stands for the prediction, where the two are tied."""
    require_tied(model)
    matched = measure(lambda p: qk_matches(model, p.clean, head), on=names, unit="share of names")
    circuit = qk_matrix(model, names.clean, head)
    figure(names_figure(f"QK circuit of {head}", names.texts, circuit))
    for sign, k in product(("positive", "negative"), KS):
        scores = qk_scores(model, names.clean, k, negative=sign == "negative").double().mean(0)
        figure(heads_figure(f"QK scores, {sign}, first {k} of all names", scores, [head]))
    assert matched >= 0.1


@pytest.mark.claim(
    "weights/movers-feed-negative-heads",
    kind="weights",
    finding="backup/composition-into-negative",
    expected={"default": "refuted"},  # its negative heads have the queries of induction heads
)
@pytest.mark.role("copy_suppression/negative_head")
def test_negative_heads_look_for_what_movers_copy(model, names, head, roles, measure, figure):
    """What each name mover before it writes for a name makes a negative head look for that name,
    for most names; and the negative head lowers what it finds."""
    movers = senders_before(roles["ioi/name_mover"], head)
    pairs = [*movers, *roles["copy_suppression/negative_head"]]
    for k in KS:
        found = compositions(model, names.clean, pairs, pairs, k)
        figure(composition_figure(f"OV into QK, first {k} of all names", found))
    circuit = composition_matrix(model, names.clean, movers[0], head)
    figure(names_figure(f"OV of {movers[0]} into QK of {head}", names.texts, circuit))
    for mover in movers:
        fed = measure(
            lambda p, mover=mover: composes(model, p.clean, mover, head),
            on=names,
            unit="share of names",
        )
        assert fed >= 0.5
    lowered = measure(
        lambda p: copies(model, p.clean, head, negative=True), on=names, unit="share of names"
    )
    assert lowered >= 0.25


@pytest.mark.claim(
    "weights/movers-turn-a-backup-away",
    kind="weights",
    finding="backup/negative-composition",
    expected={"default": "refuted"},  # its backup looks for the same person as its movers
)
@pytest.mark.role("ioi/backup_name_mover")
def test_a_backup_avoids_what_movers_copy(model, names, heads, roles, measure, figure):
    """What each name mover before it writes for a name makes the most inhibited backup avoid that
    name, for at least three names in ten; and this backup copies what it looks at."""
    tried = [
        compositions(model, names.clean, roles["ioi/name_mover"], heads, k, negative=True)
        for k in KS
    ]
    for k, found in zip(KS, tried, strict=True):
        figure(composition_figure(f"-OV into QK, first {k} of all names", found))
    backup = tried[0].best_receiver()
    movers = senders_before(roles["ioi/name_mover"], backup)
    circuit = composition_matrix(model, names.clean, movers[0], backup)
    title = f"OV of {movers[0]} into QK of {backup}"
    figure(names_figure(title, names.texts, circuit, negative=True))
    for mover in movers:
        avoided = measure(
            lambda p, mover=mover: composes(model, p.clean, mover, backup, negative=True),
            on=names,
            unit="share of names",
        )
        assert avoided >= 0.3
    copied = measure(lambda p: copies(model, p.clean, backup), on=names, unit="share of names")
    assert copied >= 0.3
