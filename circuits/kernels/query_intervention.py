"""Query and key interventions: a vector is added to what one head reads.

The query or key of the head at a position is that of its input plus scale x vector; what every
other head reads stays as it was. From seed 000: `kq_rewrite_hook` (the intervention) and
`causal_write_into_component` (scales, ablations, readouts).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.bridge import (
    Bridge,
    key_weights,
    norm_parts,
    query_weights,
    value_head,
)
from claimlens.circuits.kernels.cache import Edit, Edited, Model, edited, intact
from claimlens.circuits.kernels.frozen_norm import digest, frozen_scale, input_hook, scale_of
from claimlens.circuits.parts import Head, Position, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

Into = Literal["query", "key"]
"""Which of the two the vector reaches."""
Norm = Literal["free", "frozen", "after"]
"""Where the vector v (times its scale) enters, r being what the run under way gives the layer, s(r)
its scale there, and (r - mean r) / s(r) what the head would read:

- free: (r + v - mean) / s(r + v);
- frozen: (r + v - mean) / s, where s is the scale of the *unedited* run at that position. Only this
  head's query (or key) there is frozen: its other inputs, and all other heads, keep the scale of
  the run. With heads ablated the two differ, so that scale 0 is not the ablated run. Linear in v;
- after: (r - mean r) / s(r) + v.

In a layer of `freeze_norm` s(r) is the clean scale for all heads and positions: free and frozen are
the same there, and scale 0 is the frozen run (seed 000, `freeze_layernorm=True`)."""


def inject(
    model: Model,
    prompts: Prompts,
    head: Head,
    vector: Float[Tensor, "batch d_model"],
    scale: float = 1.0,
    *,
    into: Into = "query",
    at: str | Position = "END",
    norm: Norm = "free",
) -> Edited:
    """The model in which `head` reads, at `at`, its input plus scale x `vector`, one per prompt.

    Must be run on `prompts`. The input is that of the run under way with its other edits: ablate
    heads first, and inject into the result; `Norm` says what is divided by which scale. Scale 0 is
    a declared no-op where it changes nothing. Several injections into one head each start from its
    unchanged input; add the vectors instead. Raises ValueError for vectors of another shape or a
    scale that is no finite number, NotMeasured for an unknown position, NotApplicable for a key
    that several heads share.
    """
    bridge, place = intact(model), at if isinstance(at, Position) else Position.parse(at)
    check_vector(bridge, prompts, vector, scale)
    prompts.at(place)  # an unknown position is an error here, not in the run
    weights, hook, slot = reads(bridge, head, into)
    change = _change(model, prompts, head, scale * vector, norm, place)

    def apply(own: Float[Tensor, "batch slot n d"]) -> Float[Tensor, "batch slot n d"]:
        new, read = own.clone(), change.of_input()
        new[:, :, slot] += (read @ weights.to(read.dtype)).to(own.dtype)
        return new

    what = f"{scale:g} x vectors in the {into} of {head} at {place}"
    key = ("inject", head, into, norm, scale, digest(vector), digest(change.frozen))
    noop = scale == 0 and _free_of_effect(model, prompts, change, place)
    look, seen = input_hook(head.layer), ("look", head.layer)
    return edited(
        model,
        Edit(look, change.look, what, noop=True, key=seen, at=place),
        Edit(hook, apply, what, noop=noop, key=key, at=place),
    )


@dataclass(eq=False)
class _Change:
    """How what a head reads at a position changes, in the run that is under way.

    `frozen` is the scale that the changed input is divided by, `held` the one that the layer's own
    is; None for that of the run.
    """

    bridge: Bridge
    layer: int
    added: Float[Tensor, "batch d_model"]
    norm: Norm
    frozen: Float[Tensor, "batch slot 1"] | None
    held: Float[Tensor, "batch slot 1"] | None = None
    seen: Float[Tensor, "batch slot d_model"] | None = None

    def look(self, own: Float[Tensor, "batch slot d_model"]) -> Float[Tensor, "batch slot d_model"]:
        """Keep what the layer's normalisation is given there in this run."""
        self.seen = own
        return own

    def of_input(self) -> Float[Tensor, "batch slot d_model"]:
        """The normalised input with the vector, less the one without."""
        own, self.seen = self.seen, None
        if own is None or len(own) != len(self.added):
            raise NotMeasured(
                f"the vectors are for {len(self.added)} prompts, this run has "
                f"{0 if own is None else len(own)}; run it on the prompts it was made for"
            )
        added = self.added[:, None].expand_as(own)
        if self.norm == "after":
            return added
        before, scale = norm_parts(self.bridge, self.layer, own)
        after, free = norm_parts(self.bridge, self.layer, own + added)
        read = before / (scale if self.held is None else self.held)
        return after / (free if self.frozen is None else self.frozen) - read


def _change(
    model: Model, prompts: Prompts, head: Head, added: Tensor, norm: Norm, at: Position
) -> _Change:
    bridge, layer = intact(model), head.layer
    held = frozen_scale(model, layer)
    frozen = scale_of(bridge, prompts, layer) if norm == "frozen" and held is None else held
    there = [None if scale is None else _there(scale, prompts, at) for scale in (frozen, held)]
    return _Change(bridge, layer, added, norm, *there)


def _free_of_effect(model: Model, prompts: Prompts, change: _Change, at: Position) -> bool:
    """Whether a change by nothing is none: its scale is that of the run, which edits may change."""
    if change.norm != "frozen" or change.frozen is None or change.held is not None:
        return True
    return torch.equal(change.frozen, _there(scale_of(model, prompts, change.layer), prompts, at))


def _there(
    x: Float[Tensor, "batch pos d"], prompts: Prompts, at: Position
) -> Float[Tensor, "batch slot d"]:
    """The rows of an activation at a labelled position."""
    return x[torch.arange(len(prompts), device=x.device)[:, None], prompts.at(at)]


def reads(
    bridge: Bridge, head: Head, into: Into
) -> tuple[Float[Tensor, "d_model d_head"], str, int]:
    """The weights that make a head's query or key, their hook, and the head's place in it."""
    hook = f"blocks.{head.layer}.attn.hook_{into[0]}"
    if into == "query":
        return query_weights(bridge, head), hook, head.index
    shared = value_head(bridge, head)
    others = (Head(head.layer, index) for index in range(int(bridge.cfg.n_heads)))
    sharing = [other for other in others if other != head and value_head(bridge, other) == shared]
    if sharing:
        raise NotApplicable(
            f"{head} shares its key with {', '.join(map(str, sharing))}, so there is no key input "
            "of this head alone; intervene on its query"
        )
    return key_weights(bridge, head), hook, shared


def check_vector(bridge: Bridge, prompts: Prompts, vector: Tensor, scale: float) -> None:
    """Raise ValueError for vectors of another shape, or a scale that is no finite number."""
    expected = (len(prompts), int(bridge.cfg.d_model))
    if tuple(vector.shape) != expected:
        raise ValueError(
            f"vectors of shape {tuple(vector.shape)}; expected one per prompt, {expected}. "
            "Repeat a vector that all prompts share"
        )
    if not math.isfinite(scale):
        raise ValueError(f"scale {scale}: expected a finite number")
