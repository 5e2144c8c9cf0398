"""SAE: what the latents of a closing quotation mark do, one by one and together.

Latents are chosen by their activation at END on one half of the prompts and tested on the other.
An SAE that cannot stand in for the activation at END says nothing about the model, so every claim
here asks for that too. Where the model is sure of the mark, losing one latent hardly costs it
any loss: single latents are measured in log odds.
"""

import pytest

from claimlens.circuits import (
    ablate_each,
    active_prompts,
    answer_loss,
    halves,
    loss_increase,
    most_active,
    odds_against,
)
from claimlens.circuits.kernels.sae import active, splice


def harm(model, sae, prompts, measure):
    """How much the answer's loss rises when the reconstruction replaces the activation at END."""
    spliced = splice(model, sae, at="END")
    return measure(
        lambda p: answer_loss(spliced, p.clean) - answer_loss(model, p.clean),
        on=prompts,
        unit="nats",
    )


@pytest.mark.claim("sae/three-latents-together", kind="behaviour", finding="sae/ablate-three")
def test_without_the_three_most_active_latents_the_quote_is_not_closed(
    model, quotes, sae, measure, figure
):
    """Without its three most active latents at END, the closing quotation mark's loss rises by
    more than a nat, with the rest of the activation as it is or encoded."""
    chosen_on, tested_on = halves(quotes)
    latents = most_active(model, chosen_on.clean, sae, 3)
    for rest in ("raw", "encoded"):
        rise = measure(
            lambda p, rest=rest: loss_increase(model, p.clean, sae, latents, rest=rest),
            on=tested_on,
            unit="nats",
        )
        assert rise >= 1.0
    assert harm(model, sae, tested_on, measure) <= 0.2
    effects = ablate_each(model, tested_on, sae, [*latents, latents])
    figure(effects.table())
    figure(effects.histogram(-1))
    figure(effects.scatter(0))


@pytest.mark.claim(
    "sae/six-latents-together",
    kind="behaviour",
    finding="sae/ablate-six-l0",
    expected={"tiny-stories-2L-33M": "refuted"},  # .322 nats
)
def test_without_six_latents_the_loss_rises(model, quotes, sae, measure):
    """Without its six most active latents at END together, the closing quotation mark's loss
    rises by more than a nat."""
    chosen_on, tested_on = halves(quotes)
    latents = most_active(model, chosen_on.clean, sae, 6)
    rise = measure(lambda p: loss_increase(model, p.clean, sae, latents), on=tested_on, unit="nats")
    assert rise >= 1.0
    assert harm(model, sae, tested_on, measure) <= 0.2


@pytest.mark.claim(
    "sae/most-active-latent",
    kind="behaviour",
    source="seed 003, table of directions (sae/directions-l1: the first is active on .466 of the "
    "prompts, and costs .496 nats of loss); log odds are ours",
)
def test_the_most_active_latent_matters_on_many_prompts(model, quotes, sae, measure):
    """The latent most active at END is active on at least four prompts of ten, and without it the
    log odds against the closing quotation mark rise by at least 0.5 nats, whether the rest is raw
    or encoded."""
    chosen_on, tested_on = halves(quotes)
    top = most_active(model, chosen_on.clean, sae, 1)
    fires = measure(
        lambda p: active(model, p.clean, sae, top, threshold=0.1),
        on=tested_on,
        unit="share of prompts",
    )
    assert fires >= 0.4
    for rest in ("raw", "encoded"):
        rise = measure(
            lambda p, rest=rest: loss_increase(
                model, p.clean, sae, top, rest=rest, score=odds_against
            ),
            on=tested_on,
            unit="nats",
        )
        assert rise >= 0.5
    assert harm(model, sae, tested_on, measure) <= 0.2


@pytest.mark.claim(
    "sae/one-latent-costs-less-than-three", kind="behaviour", finding="sae/directions-l1"
)
def test_losing_the_most_active_latent_alone_costs_little(model, quotes, sae, measure):
    """Without the latent most active at END alone, the closing quotation mark's loss rises by less
    than a nat; without the next two as well, by at least a nat more than that."""
    chosen_on, tested_on = halves(quotes)
    latents = most_active(model, chosen_on.clean, sae, 3)

    def rise(gone):
        return measure(
            lambda p: loss_increase(model, p.clean, sae, gone), on=tested_on, unit="nats"
        )

    alone, together = rise(latents[:1]), rise(latents)
    assert together - alone >= 1.0
    assert alone <= 1.0
    assert harm(model, sae, tested_on, measure) <= 0.2


@pytest.mark.claim(
    "sae/each-latent-alone",
    kind="behaviour",
    source="seed 003, ablation of one direction where it is active (sae/one-direction-logprob: "
    "it costs .253 nats of loss); log odds are ours",
)
def test_each_of_the_two_most_active_latents_matters_alone(model, quotes, sae, measure):
    """Without either of the two latents most active at END, on the prompts where it is active,
    the log odds against the closing quotation mark rise by at least 1 nat, whether the rest is
    raw or encoded."""
    chosen_on, tested_on = halves(quotes)
    for latent in most_active(model, chosen_on.clean, sae, 2):
        where = active_prompts(model, tested_on, sae, latent)
        for rest in ("raw", "encoded"):
            rise = measure(
                lambda p, latent=latent, rest=rest: loss_increase(
                    model, p.clean, sae, [latent], rest=rest, score=odds_against
                ),
                on=where,
                unit="nats",
            )
            assert rise >= 1.0
    assert harm(model, sae, tested_on, measure) <= 0.2
