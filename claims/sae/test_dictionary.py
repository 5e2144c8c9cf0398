"""SAE: the dictionary as a whole, over streamed prompts."""

import pytest

from claimlens.circuits import max_activations, sae_statistics
from claimlens.circuits.kernels.max_activations import peaks


@pytest.mark.claim(
    "sae/few-latents-are-dead",
    kind="weights",
    source="seed 003, get_activations; dead latents after Gao et al. 2024",
)
def test_the_dictionary_is_in_use(model, quotes, ioi, repeated_tokens, text, sae, measure, figure):
    """On four kinds of prompts together at most half of the latents never fire, and those that do
    explain at least 90% of the activation's variance.

    More prompts can only bring more latents to fire, so the count is a bound, not a sample.
    """
    streamed = (pairs.clean for pairs in (quotes, ioi, repeated_tokens, text))
    found = sae_statistics(model, streamed, sae)
    assert measure(found.dead_share, unit="share of latents") <= 0.5
    assert measure(found.explained_variance, unit="fraction") >= 0.9
    figure(found.density_histogram())


@pytest.mark.claim(
    "sae/streamed-maxima", kind="identity", source="seed 003, get_activations, streamed"
)
def test_streaming_finds_the_maxima(model, quotes, sae, measure):
    """The top prompts of every latent, taken in batches of ten, are those of all at once."""
    rows = range(len(quotes))
    batches = (quotes.select(rows[i : i + 10]).clean for i in rows[::10])
    streamed = max_activations(model, batches, sae, k=len(quotes))
    whole = peaks(model, quotes.clean, sae)[0].sort(dim=0, descending=True).values
    gap = (streamed.activation - whole).abs().amax(1)
    assert measure(gap, on=quotes, unit="activation", exact=True) <= 1e-3
