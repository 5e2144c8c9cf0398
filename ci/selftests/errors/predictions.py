"""Generated text, ranked tokens and training curves that cannot be."""

from __future__ import annotations

from dataclasses import replace

import torch

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.errors.entry import Entry
from claimlens.ci.selftests.errors.subjects import clean
from claimlens.circuits.kernels.generate import continue_text, generate, without_last
from claimlens.circuits.kernels.next_tokens import standing, top_tokens
from claimlens.circuits.kernels.token_boosts import boost_margin, eligible, rank_tokens
from claimlens.circuits.kernels.training import steepest_fall

_BOOSTS, _ONE = torch.zeros(2, 3), torch.tensor([True, False, False])


ENTRIES = (
    Entry(lambda _: generate(micro.bridge(), clean(), 0)),
    Entry(lambda _: generate(micro.bridge(), clean(), 99)),
    Entry(lambda _: continue_text(micro.bridge(), (0, 5, 6), str, bos=0)),
    Entry(lambda _: continue_text(micro.bridge(), [], str)),
    Entry(lambda _: without_last(clean(), 99)),
    Entry(lambda _: top_tokens(micro.bridge(), clean(), 0)),
    Entry(lambda _: standing(micro.bridge(), replace(clean(), answer=None))),
    Entry(lambda _: eligible()),
    Entry(lambda _: eligible(counts=torch.full((4,), 100))),
    Entry(lambda _: rank_tokens(torch.zeros(6), torch.ones(6, dtype=torch.bool), 7)),
    Entry(lambda _: boost_margin(_BOOSTS, 2, _ONE)),
    Entry(lambda _: boost_margin(_BOOSTS, 0, _ONE)),
    Entry(lambda _: steepest_fall([torch.zeros(2)])),
)
