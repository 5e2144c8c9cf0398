"""The mean over tokens that mean ablations share: its value, and that of nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import ROUNDING, agree
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.kernels.cache import Model, cache
from claimlens.circuits.kernels.latent_attribution import feature_attribution
from claimlens.circuits.kernels.latent_drive import ablate_mlp
from claimlens.circuits.kernels.sae import ablate_site, residual_variance
from claimlens.circuits.kernels.token_mean import token_mean
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotMeasured

OUT = "blocks.1.hook_mlp_out"
SAE = random_sae("standard", OUT, micro.WIDTH)
Use = Callable[[Model, Prompts, Prompts], object]
USES: dict[str, Use] = {
    "token_mean": lambda m, clean, over: token_mean(m, over, OUT),
    "ablate_site": lambda m, clean, over: logit_diff(ablate_site(m, SAE, over), clean),
    "ablate_mlp": lambda m, clean, over: logit_diff(ablate_mlp(m, 1, over), clean),
    "feature_attribution": lambda m, clean, over: feature_attribution(
        m, clean, SAE, 2, neurons="mean", over=over
    ),
    "residual_variance": lambda m, clean, over: residual_variance(m, over, SAE),
}


def test_every_token_counts_once_but_the_first_and_padding(model: Any, clean: Prompts) -> None:
    found = cache(model, clean, [OUT])[OUT]
    tokens = [found[row, at] for row, n in enumerate(clean.lengths.tolist()) for at in range(1, n)]
    assert len(set(clean.lengths.tolist())) > 1
    agree(token_mean(model, clean, OUT), torch.stack(tokens).mean(0), ROUNDING)


def empty(clean: Prompts) -> list[Prompts]:
    """No prompts; and prompts of one token."""
    short = replace(clean, lengths=torch.ones_like(clean.lengths), positions={})
    return [clean.select(torch.arange(0)), short]


@pytest.mark.parametrize("use", USES)
def test_no_tokens_have_no_mean(use: str, model: Any, clean: Prompts) -> None:
    """It was NaN, for which the model's weights were blamed."""
    USES[use](model, clean, clean)
    for over in empty(clean):
        with pytest.raises(NotMeasured, match=r"^no tokens to take the mean over: \d+ prompts"):
            USES[use](model, clean, over)
