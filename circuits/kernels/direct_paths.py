"""From one head to the input of every later head, by the direct path, and on to the answer.

The edges of a circuit (Wang et al. 2022, section 3.1 and figure 5): the sender writes what it
writes on another run, every other head stays as it is, one later head reads the difference, and
what follows is free. `path_patch` with one receiver after the other.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.engine.changes import Cell, Kind, Site, replace, z
from claimlens.circuits.engine.linear import Linear
from claimlens.circuits.engine.policy import either
from claimlens.circuits.engine.read import read_out_of
from claimlens.circuits.engine.run import Run, check_source, intact_run
from claimlens.circuits.engine.sweep import Sweep
from claimlens.circuits.kernels.bridge import all_heads, check_head, value_head
from claimlens.circuits.kernels.cache import Model, intact
from claimlens.circuits.kernels.path_patch import Mlps, path_effect
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

_KINDS: dict[str, Kind] = {"q": "q", "k": "k", "v": "v"}


def direct_paths(
    model: Model,
    prompts: Prompts,
    source: Prompts,
    sender: Head,
    into: str = "q",
    mlps: Mlps = "frozen",
) -> Float[Tensor, "batch layer head"]:
    """`path_effect` from one sender to each later head in turn, into its q, k or v [logits].

    Exactly 0 for heads of the sender's layer and before, which no path reaches. `mlps` as in
    `path_patch`: frozen, what the receiver reads is the direct path alone. Heads of a group share
    keys and values. Raises NotApplicable for a sender in the last layer, ValueError for another
    `into`, NotMeasured where the sender writes the same in both runs.
    """
    check_head(intact(model), sender)
    if into not in _KINDS:
        raise ValueError(f"into={into!r}; expected one of q, k and v")
    later = [head for head in all_heads(intact(model)) if head.layer > sender.layer]
    if not later:
        raise NotApplicable(f"no head stands behind {sender}: it is in the last layer")
    effects = either(
        "direct_paths",
        lambda: _by_engine(model, prompts, source, sender, into, mlps),
        lambda: torch.stack(
            [path_effect(model, prompts, source, sender, head, into, mlps) for head in later], 1
        ),
    )
    before = effects.new_zeros(len(prompts), (sender.layer + 1) * int(intact(model).cfg.n_heads))
    layers = int(intact(model).cfg.n_layers)
    return rearrange(
        torch.cat([before, effects], 1), "batch (layer head) -> batch layer head", layer=layers
    )


def _by_engine(
    model: Model, prompts: Prompts, source: Prompts, sender: Head, into: str, mlps: Mlps
) -> Float[Tensor, "batch receiver"]:
    read, run = read_out_of(logit_diff, prompts), intact_run(model, prompts)
    other = intact_run(model, source)
    check_source(run, other)
    sent = other.at(z(sender)) - run.at(z(sender))
    if not bool(sent.any()):
        raise NotMeasured(f"{sender} writes the same on both sides: there is nothing to send")
    with torch.no_grad():
        change = sent @ run.weights.output(sender.layer, sender.index)
        if mlps == "recomputed" and not run.weights.parallel:
            change = _heard(run, sender.layer, change)
        cells = list(_receivers(run, sender.layer + 1, change, into, mlps))
    swept = Sweep(run, cells, read, "direct_paths")
    return (swept.result()[..., 0] - swept.intact()[:, 0]).T


def _receivers(
    run: Run, first: int, change: Float[Tensor, "batch pos d_model"], into: str, mlps: Mlps
) -> Iterator[Cell]:
    """Every head from a layer on, reading a change of the stream before that layer."""
    for layer in range(first, run.layers):
        new = _read(run, layer, change, into)
        for index in range(run.weights.heads):
            whose = index if into == "q" else value_head(run.model, Head(layer, index))
            yield Cell.of(replace(Site(_KINDS[into], layer, whose), new[:, :, whose], noop=True))
        if mlps == "recomputed":
            change = _heard(run, layer, change)


def _read(
    run: Run, layer: int, change: Float[Tensor, "batch pos d_model"], into: str
) -> Float[Tensor, "batch pos head d_head"]:
    """Queries, keys or values of a changed stream; where nothing changed, those of the run."""
    parts = run.weights.layers[layer]
    reading: Linear = getattr(parts, into)
    old: Tensor = getattr(run, into)[layer]
    new = rearrange(
        reading(parts.ln1(run.pre[layer] + change)),
        "batch pos (head e) -> batch pos head e",
        e=run.weights.d_head,
    )
    return torch.where((change != 0).any(-1)[..., None, None], new, old)


def _heard(
    run: Run, layer: int, change: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos d_model"]:
    """A change of the stream, with what a layer's MLP makes of it."""
    mlp_out = run.weights.layers[layer].mlp(run.mid(layer) + change)
    return change + mlp_out - run.mlp_out[layer]
