"""SAE: a latent matters where it is active, and hardly on the average token."""

import pytest

from claimlens.circuits import activation_map, global_and_local, halves, loss, peak_latents
from claimlens.circuits.kernels.sae import splice


@pytest.mark.claim("sae/global-against-local", kind="behaviour", finding="sae/global-vs-single")
def test_a_latent_matters_where_it_is_active(model, loaded_model, text, sae, measure, figure):
    """On the prompts that activate it most, ablating the latent with the highest peak at one of
    its active positions costs at least 0.1 nats there, and at least 0.1 more than ablating it
    everywhere costs on the average token."""
    chosen_on, tested_on = halves(text)
    spliced = measure(
        lambda p: loss(splice(model, sae), p.clean) - loss(model, p.clean),
        on=tested_on,
        unit="nats/token",
    )
    (latent,) = peak_latents(model, chosen_on.clean, sae, 1)
    found = global_and_local(model, tested_on, sae, latent, k=len(tested_on) // 2)
    local = measure(found.one_at_a_time, on=found.pairs, unit="nats")
    everywhere = measure(found.per_token, on=found.pairs, unit="nats")
    assert local >= 0.1
    assert local - everywhere >= 0.1
    assert spliced <= 0.2
    figure(found.histogram())
    shown = found.pairs.select(range(min(5, len(found.pairs)))).clean
    words = loaded_model.vocabulary.words(shown)
    figure(activation_map(model, shown, words, sae, [latent]))
