"""x W + b, and the activation behind it.

On a CPU, torch hands float32 products to MKL, which on some processors is a tenth slower than
oneDNN, and makes an activation in a pass of its own. Torch carries oneDNN too, with both in one
call that its compiler uses; so does this module, for products large enough to be worth it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

LARGE = 1 << 24
"""Multiplications from which a product is worth the half millisecond that a new shape costs."""
ROWS = 16
"""Rows from which it is: one row times the unembedding is twice slower."""
_SCHEMA = (
    "mkldnn::_linear_pointwise(Tensor X, Tensor W, Tensor? B, str attr, Scalar?[] scalars, "
    "str? algorithm) -> Tensor Y"
)


@dataclass(frozen=True, eq=False)
class Activation:
    """What neurons do with their input; `fused` is what oneDNN calls it, with its variant."""

    plain: Callable[[Tensor], Tensor]
    fused: tuple[str, str]

    def __call__(self, x: Float[Tensor, "*rows neuron"]) -> Float[Tensor, "*rows neuron"]:
        """Neuron by neuron."""
        return self.plain(x)


ACTIVATIONS = {
    "gelu_new": Activation(partial(functional.gelu, approximate="tanh"), ("gelu", "tanh")),
    "gelu": Activation(functional.gelu, ("gelu", "none")),
    "silu": Activation(functional.silu, ("swish", "")),
    "relu": Activation(functional.relu, ("relu", "")),
}


@dataclass(frozen=True, eq=False)
class Linear:
    """x W + b."""

    weight: Float[Tensor, "d_in d_out"]
    bias: Float[Tensor, " d_out"] | None

    def __call__(
        self, x: Float[Tensor, "*rows d_in"], act: Activation | None = None
    ) -> Float[Tensor, "*rows d_out"]:
        """x W + b, row by row, and its activation."""
        flat = rearrange(x, "... d -> (...) d")
        out = self._fused(flat, act) if self._worth(flat) else self._plain(flat, act)
        return out.reshape(*x.shape[:-1], self.weight.shape[1])

    def _worth(self, x: Float[Tensor, "row d_in"]) -> bool:
        large = len(x) >= ROWS and len(x) * self.weight.numel() >= LARGE
        return large and x.dtype == torch.float32 and x.device.type == "cpu" and fuses()

    def _fused(
        self, x: Float[Tensor, "row d_in"], act: Activation | None
    ) -> Float[Tensor, "row d_out"]:
        name, variant = act.fused if act else ("none", "")
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.weight.T, self.bias, name, [], variant
        )
        return out

    def _plain(
        self, x: Float[Tensor, "row d_in"], act: Activation | None
    ) -> Float[Tensor, "row d_out"]:
        bias = self.bias
        out = x @ self.weight if bias is None else torch.addmm(bias, x, self.weight)
        return act(out) if act else out


@cache
def fuses() -> bool:
    """Whether this torch has oneDNN's product with an activation, in the form known here."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's own
        return False
    known = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    return known is not None and str(known.default._schema) == _SCHEMA
