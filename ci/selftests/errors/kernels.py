"""Arguments that kernels and the engine cannot take."""

from __future__ import annotations

import torch

from claimlens.ci.selftests.errors.entry import Entry
from claimlens.circuits.engine.changes import Site
from claimlens.circuits.kernels.attention import parsed
from claimlens.circuits.kernels.cspa import check_preserve
from claimlens.circuits.kernels.directions import split
from claimlens.circuits.kernels.sae import Sae, check_latents
from claimlens.circuits.parts import Prompts

_SAE = {"W_enc": torch.ones(2, 3), "W_dec": torch.ones(3, 2), "b_dec": torch.zeros(2)}


def _sae(k: int | None = None) -> Sae:
    return Sae("blocks.0.hook_resid_post", "topk", **_SAE, k=k)  # type: ignore[arg-type]


def _prompts() -> Prompts:
    tokens = torch.tensor([[0, 1, 2]])
    return Prompts(tokens, torch.tensor([3]), {"S1": torch.tensor([[2]])}, ("t",))


ENTRIES = (
    Entry(lambda _: Site("z", 0)),
    Entry(lambda _: parsed("IO~S1")),
    Entry(lambda _: check_preserve("keys")),
    Entry(lambda _: split(torch.ones(1, 2), torch.zeros(1, 2))),
    Entry(lambda _: _sae(k=9)),
    Entry(lambda _: _sae().encode(torch.ones(1, 2))),
    Entry(lambda _: check_latents(_sae(), [])),
    Entry(lambda _: check_latents(_sae(), [3])),
    Entry(lambda _: _prompts().at("IO")),
    Entry(lambda _: _prompts().at("S1+1")),
)
