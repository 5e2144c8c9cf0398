"""What we need of a TransformerBridge, in one place.

Every difference between TransformerLens versions, and every assumption about its weights, is here.
All weights are the processed ones of compatibility mode: LayerNorm folded, centred.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.parts import Head
from claimlens.circuits.verdict import NotApplicable


@runtime_checkable
class Bridge(Protocol):
    """The part of a TransformerBridge that kernels use."""

    cfg: Any

    def run_with_hooks(self, *args: Any, **kwargs: Any) -> Any:
        """Run forward with temporary hooks."""
        ...


def hook_names(model: Bridge) -> frozenset[str]:
    """Every name a hook can be put on."""
    names: Any = getattr(model, "hook_dict")  # noqa: B009  (a property; not part of the protocol)
    return frozenset(names)


def check_head(model: Bridge, head: Head) -> None:
    """Raise NotApplicable where the model has no such head."""
    layers, heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
    if head.layer >= layers or head.index >= heads:
        raise NotApplicable(
            f"the model has no head {head}: it has {layers} layers of {heads} heads; "
            "give the claim's role heads of this model in roles.json"
        )


def all_heads(model: Bridge) -> list[Head]:
    """Every head of the model, by layer."""
    return [
        Head(layer, index)
        for layer in range(int(model.cfg.n_layers))
        for index in range(int(model.cfg.n_heads))
    ]


def output_weights(model: Bridge, head: Head) -> Float[Tensor, "d_head d_model"]:
    """W_O of one head."""
    check_head(model, head)
    weights: Tensor = _weights(model).W_O[head.layer, head.index]
    return weights.detach()


def unembedding(model: Bridge) -> Float[Tensor, "d_model d_vocab"]:
    """W_U with the final LayerNorm's weight folded in, centred over the vocabulary."""
    weights: Tensor = _weights(model).W_U
    return weights.detach()


def weights_version(model: Bridge) -> int:
    """A number that changes whenever a weight is changed in place."""
    return sum(weight._version for weight in _weights(model).parameters())


def value_head(model: Bridge, head: Head) -> int:
    """Index of the value (and key) head that a query head reads, with grouped heads."""
    groups = int(getattr(model.cfg, "n_key_value_heads", None) or model.cfg.n_heads)
    return head.index * groups // int(model.cfg.n_heads)


def writes(model: Bridge, head: Head) -> bool:
    """Whether the head can write anything at all: its output weights are not all zero."""
    return bool(torch.count_nonzero(output_weights(model, head)))


def _weights(model: Bridge) -> Any:
    return model
