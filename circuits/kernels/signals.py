"""What S-inhibition heads tell the name movers: where the repeated name was, and which it is.

Wang et al. 2022 (arXiv:2211.00593), appendix A. Four prompts differ in these two signals alone, and
only the S-inhibition heads' output at END is taken from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.ablate import Heads, many
from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.kernels.knockout import Node, knockout
from claimlens.circuits.kernels.memory import recalled
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Prompts


@dataclass(frozen=True, eq=False)
class Variant:
    """IOI prompts whose repeated name speaks for S (+1) or for IO (-1), by place and by token."""

    name: str
    position: int
    token: int
    prompts: Prompts


def signal_variants(prompts: Prompts) -> tuple[Variant, ...]:
    """The prompts themselves, and with either signal or both turned round; labels stay in place.

    For "Mary and John …, John gave": position turned "John and Mary …, John gave"; token turned
    "John and Mary …, Mary gave" (the names exchanged); both turned "Mary and John …, Mary gave".
    Needs labels IO, S1 and S2 of one token each; raises ValueError where S1 and S2 differ.
    """
    rows = torch.arange(len(prompts), device=prompts.tokens.device)
    io, s1, s2 = (prompts.at(label)[:, 0] for label in ("IO", "S1", "S2"))
    names = prompts.tokens[rows, io], prompts.tokens[rows, s1]
    if prompts.moved is None and bool((names[1] != prompts.tokens[rows, s2]).any()):
        raise ValueError("S1 and S2 are different tokens: these are no IOI prompts; use `ioi`")

    def written(*names: Tensor) -> Prompts:
        def tokens() -> Tensor:
            turned = prompts.tokens.clone()
            turned[rows, io], turned[rows, s1], turned[rows, s2] = names
            return turned

        what = repr([name.tolist() for name in (io, s1, *names)])
        key = ("signal variant", id(prompts.tokens), what)
        return replace(prompts, tokens=recalled(key, prompts, tokens))

    a, b = names
    return (
        Variant("original", 1, 1, prompts),
        Variant("position turned", -1, 1, written(b, a, b)),
        Variant("token turned", 1, -1, written(b, a, a)),
        Variant("both turned", -1, -1, written(a, b, a)),
    )


def signal_effects(
    model: Model, prompts: Prompts, heads: Heads, variants: Sequence[Variant]
) -> Float[Tensor, "batch variant"]:
    """Logit difference on `prompts` with z of `heads` at END from each variant [logits].

    A variant that is `prompts` itself changes nothing. Raises NotMeasured where the heads write
    the same on another one.
    """
    nodes = [Node(head, "END") for head in many(heads)]
    models = [
        model
        if variant.prompts is prompts
        else knockout(model, prompts, nodes, "resample", variant.prompts)
        for variant in variants
    ]
    return torch.stack([logit_diff(each, prompts) for each in models], 1)


def signal_coefficients(
    model: Model, prompts: Prompts, heads: Heads
) -> Float[Tensor, "batch signal"]:
    """How much the logit difference owes to each signal, position then token [logits per signal].

    The least-squares fit of `signal_effects` over the four variants, prompt by prompt; their signs
    are orthogonal, so each is a signed mean. (The paper fits six variants, two of them with random
    names, which carry no token signal: 2.31 and 0.99 for GPT-2.)
    """
    variants = signal_variants(prompts)
    effects = signal_effects(model, prompts, heads, variants)
    signs = effects.new_tensor([(v.position, v.token) for v in variants])
    return effects @ signs / len(variants)
