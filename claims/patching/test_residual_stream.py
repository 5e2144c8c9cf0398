"""Activation patching of the residual stream: where the second subject's name is, by layer."""

import pytest

from claimlens.circuits import logit_diff, patch_residual, zero_region
from claimlens.circuits.figures import Heatmap


@pytest.mark.claim(
    "patching/swapped-subject-flips", kind="behaviour", finding="demo/ioi-logit-diff-corrupted"
)
def test_swapping_the_second_subject_flips_the_answer(model, ioi_swapped, measure):
    """One token decides: with the other name at S2 the logit difference changes its sign."""
    clean = measure(lambda p: logit_diff(model, p.clean), on=ioi_swapped, unit="logits")
    swapped = measure(lambda p: logit_diff(model, p.corrupted), on=ioi_swapped, unit="logits")
    assert clean >= 1.0
    assert swapped <= -1.0


@pytest.mark.claim("patching/leaves-s2", kind="mechanism", finding="demo/resid-pre-patching")
def test_the_name_at_s2_matters_early_only(model, ioi_swapped, roles, measure):
    """Patched at S2 into the run with the other name there, the clean residual stream restores
    the logit difference a quarter of the way up, and no longer before the first name mover."""
    early = model.cfg.n_layers // 4
    late = min(head.layer for head in roles["ioi/name_mover"])

    def lost(p):
        patched = patch_residual(model, p.clean, p.corrupted, (early, late), ["S2"])
        return patched.at(early, "S2") - patched.at(late, "S2")

    gap = measure(
        lambda p: logit_diff(model, p.clean) - logit_diff(model, p.corrupted),
        on=ioi_swapped,
        unit="logits",
    )
    assert gap >= 1.0
    assert measure(lost, on=ioi_swapped, unit="logits") / gap >= 0.5


@pytest.mark.claim(
    "patching/arrives-at-end", kind="mechanism", finding="demo/resid-pre-patching-end"
)
def test_the_name_has_come_to_end_before_the_movers(model, ioi_swapped, roles, measure):
    """Patched at END, the clean residual stream restores the logit difference before the first
    name mover, and does not a quarter of the way up: what was at S2 has been moved there."""
    early = model.cfg.n_layers // 4
    late = min(head.layer for head in roles["ioi/name_mover"])

    def gained(p):
        patched = patch_residual(model, p.clean, p.corrupted, (early, late), ["END"])
        return patched.at(late, "END") - patched.at(early, "END")

    gap = measure(
        lambda p: logit_diff(model, p.clean) - logit_diff(model, p.corrupted),
        on=ioi_swapped,
        unit="logits",
    )
    assert gap >= 1.0
    assert measure(gained, on=ioi_swapped, unit="logits") / gap >= 0.5


@pytest.mark.claim(
    "patching/exactly-zero-region", kind="identity", finding="demo/resid-pre-patching"
)
def test_patching_what_cannot_reach_the_answer_changes_nothing(model, ioi_swapped, measure, figure):
    """Patching a position before the first token that differs has exactly no effect at any layer,
    nor has one with equal tokens before the first layer, nor any but END after the last."""
    layers = (0, model.cfg.n_layers // 2, model.cfg.n_layers)
    few = ioi_swapped.select(range(4))
    patched = patch_residual(model, few.clean, few.corrupted, layers)
    region = zero_region(patched, few.clean, few.corrupted)
    largest = (patched.effect.abs() * region).amax((1, 2))
    title, rows = "Effect of patching the stream, first prompt [logits]", patched.effect[0]
    figure(Heatmap(title, "position", "before layer", patched.places, layers, rows.tolist()))
    assert measure(largest, on=few, unit="logits", exact=True) <= 0


@pytest.mark.claim(
    "patching/everything-restores-the-clean-run",
    kind="identity",
    finding="demo/resid-pre-patching",
    version=2,
)
def test_patching_all_that_differs_gives_the_clean_run(model, ioi_swapped, measure):
    """Before the first layer only S2 differs, after the last only END is read: patched there, the
    corrupted run is the clean run, to a ten-thousandth of a logit."""
    ends = (0, model.cfg.n_layers)

    def missing(p):
        patched = patch_residual(model, p.clean, p.corrupted, ends, ["S2", "END"])
        at_s2 = patched.gap - patched.at(ends[0], "S2")
        return at_s2.abs().maximum((patched.gap - patched.at(ends[1], "END")).abs())

    few = ioi_swapped.select(range(16))
    assert measure(missing, on=few, unit="logits", exact=True) <= 1e-4
