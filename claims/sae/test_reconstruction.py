"""SAE: its reconstruction can stand in for the activation."""

import pytest

from claimlens.circuits import loss
from claimlens.circuits.kernels.sae import ablate_site, l0, residual_variance, splice


@pytest.mark.claim("sae/loss-recovered", kind="behaviour", finding="sae/recover-l1-all")
def test_the_sae_recovers_the_loss(model, quotes, sae, measure):
    """With the SAE in the activation's place at least 80% of the loss is recovered, against
    zero ablation and against mean ablation of the site."""
    clean = measure(lambda p: loss(model, p.clean), on=quotes, unit="nats/token")
    spliced = measure(lambda p: loss(splice(model, sae), p.clean), on=quotes, unit="nats/token")
    zero = measure(lambda p: loss(ablate_site(model, sae), p.clean), on=quotes, unit="nats/token")
    mean = measure(
        lambda p: loss(ablate_site(model, sae, over=p.clean), p.clean), on=quotes, unit="nats/token"
    )
    assert (zero - spliced) / (zero - clean) >= 0.8
    assert (mean - spliced) / (mean - clean) >= 0.8


@pytest.mark.claim("sae/sparse-and-faithful", kind="behaviour", finding="sae/recover-l1-all")
def test_the_sae_is_sparse_and_explains_the_activation(model, quotes, sae, measure):
    """A quarter of the site's dimensions or fewer are active at a time, and they explain at
    least 70% of the activation's variance."""
    active = measure(
        lambda p: l0(model, p.clean, sae), on=quotes, unit="latents", exact=sae.k is not None
    )
    error = measure(lambda p: residual_variance(model, p.clean, sae)[0], on=quotes, unit="variance")
    spread = measure(
        lambda p: residual_variance(model, p.clean, sae)[1], on=quotes, unit="variance"
    )
    assert active <= 0.25 * sae.W_enc.shape[0]
    assert error / spread <= 0.3
