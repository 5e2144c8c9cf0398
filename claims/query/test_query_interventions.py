"""Query interventions: what a head looks at when another head's output is added to its query."""

import pytest

from claimlens.circuits import (
    attention_readouts,
    attention_sum,
    head_output,
    inject,
    logit_diff,
    query_grid,
    resample_ablate,
    split,
    sweep,
    token_directions,
)
from claimlens.circuits.kernels.query_grid import TERMS

SCALES = (-8, -4, 0, 4, 8)
"""The figure's, as those of seed 000."""
SCALE = 4.0
"""Half of the range of seed 000's figure."""
SHORT_OF_SATURATION = 2.0
"""Where the planted backup's attention still differs between prompts: at 4 it is exactly 0 or 1."""


def parts_of(model, prompts, mover):
    """The mover's output at END, and its parts along and orthogonal to the answer's unembedding."""
    whole = head_output(model, prompts, mover)
    along, rest = split(whole, token_directions(model, prompts.answer))
    return {"whole": whole, "along": along, "orthogonal": rest}


def fall(model, prompts, head, vector, scale=SCALE):
    """How much less the head looks from END at IO with the vector added than with it taken out."""
    looks = sweep(model, prompts, [head], vector, (-scale, scale), attention_readouts(["IO"]))
    less, more = looks["IO"][0]
    return less - more


@pytest.mark.claim(
    "query/s-inhibition-in-the-movers-query", kind="mechanism", finding="ioi/s-inhibition-query"
)
@pytest.mark.role("ioi/s_inhibition", shared_with=("ioi/name_mover", "ioi/duplicate_token"))
def test_the_movers_query_without_s_inhibition(model, ioi, head, roles, measure):
    """With an S-inhibition head's output taken out of the first name mover's query, and of
    nothing else, the mover no longer prefers the indirect object to the subject as much
    (IO - S1 - S2)."""
    mover = roles["ioi/name_mover"][0]
    clean = measure(
        lambda p: attention_sum(model, p.clean, mover, "IO-S1-S2"), on=ioi, unit="probability"
    )

    def without(p):
        changed = inject(model, p.clean, mover, head_output(model, p.clean, head), -1.0)
        return attention_sum(changed, p.clean, mover, "IO-S1-S2")

    assert clean - measure(without, on=ioi, unit="probability") >= 0.1


@pytest.mark.claim(
    "query/movers-prefer-io-only-to-a-repeated-s",
    kind="mechanism",
    finding="ioi/name-mover-attention",
)
@pytest.mark.role(
    "ioi/name_mover", shared_with=("ioi/backup_name_mover", "copy_suppression/negative_head")
)
def test_name_movers_prefer_io_where_s_is_repeated(model, ioi, head, measure):
    """A name mover looks more at IO than at both mentions of S (IO - S1 - S2); on ABC prompts,
    where no name is repeated, it has no such preference (IO - S1). Its z from the clean run makes
    up a tenth of the logit difference that ABC prompts lack."""
    clean, abc = (
        measure(
            lambda p, side=side, terms=terms: attention_sum(model, getattr(p, side), head, terms),
            on=ioi,
            unit="probability",
        )
        for side, terms in (("clean", "IO-S1-S2"), ("corrupted", "IO-S1"))
    )
    assert clean >= 0.3
    assert clean - abc >= 0.3
    lost = measure(
        lambda p: logit_diff(model, p.clean) - logit_diff(model, p.corrupted), on=ioi, unit="logits"
    )
    restored = measure(
        lambda p: (
            logit_diff(resample_ablate(model, head, p.clean), p.corrupted)
            - logit_diff(model, p.corrupted)
        ),
        on=ioi,
        unit="logits",
    )
    assert restored / lost >= 0.1


@pytest.mark.claim(
    "query/mover-output-turns-backup-away",
    kind="mechanism",
    finding="backup/query-intervention-11.2",
)
@pytest.mark.role("ioi/backup_name_mover", shared_with=("ioi/name_mover",))
def test_a_movers_output_turns_a_backup_away(model, ioi, head, roles, measure, figure):
    """Twice the first name mover's output in a backup head's query makes it look less from
    END at the indirect object than minus twice does."""
    mover = roles["ioi/name_mover"][0]
    turned = measure(
        lambda p: fall(
            model, p.clean, head, parts_of(model, p.clean, mover)["whole"], SHORT_OF_SATURATION
        ),
        on=ioi,
        unit="probability",
    )
    assert turned >= 0.05
    few = ioi.select(range(16)).clean
    parts, title = parts_of(model, few, mover), f"{mover}'s output in the query of {head}"
    looks = attention_readouts(TERMS)
    for readouts, label in ((looks, "attention probability"), (None, None)):
        figure(query_grid(model, few, [head], parts, SCALES, title, readouts, label))


@pytest.mark.claim(
    "query/orthogonal-part-turns-backup-away",
    kind="mechanism",
    finding="backup/query-intervention-perp",
    expected={"planted": "refuted"},
)
@pytest.mark.role(
    "ioi/backup_name_mover", shared_with=("ioi/name_mover", "copy_suppression/negative_head")
)
def test_what_turns_a_backup_away_is_not_the_prediction(model, ioi, head, roles, measure):
    """The part of the first name mover's output that is orthogonal to the indirect object's
    unembedding turns a backup head away from it, and more so than the part along it.

    The planted backup reads the prediction itself, so there it is the other way round.
    """
    mover = roles["ioi/name_mover"][0]
    rest, along = (
        measure(
            lambda p, part=part: fall(model, p.clean, head, parts_of(model, p.clean, mover)[part]),
            on=ioi,
            unit="probability",
        )
        for part in ("orthogonal", "along")
    )
    assert rest >= 0.05
    assert rest - along >= 0.05


@pytest.mark.claim(
    "query/prediction-draws-negative-heads",
    kind="mechanism",
    source="McDougall et al. 2023, arXiv:2310.04625, section 3.2 (copy suppression's QK circuit)",
    expected={"default": "refuted"},
)
@pytest.mark.role("copy_suppression/negative_head")
def test_a_prediction_draws_a_negative_head(model, ioi, head, roles, measure):
    """A negative head looks for what is predicted: twice the part of the first name mover's
    output along the indirect object's unembedding, in its query, draws it there, against minus
    twice. The default's anti-copy heads find what they suppress in another way."""
    mover = roles["ioi/name_mover"][0]
    drawn = measure(
        lambda p: (
            -fall(
                model, p.clean, head, parts_of(model, p.clean, mover)["along"], SHORT_OF_SATURATION
            )
        ),
        on=ioi,
        unit="probability",
    )
    assert drawn >= 0.2
