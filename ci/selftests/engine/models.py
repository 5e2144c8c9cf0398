"""Small random models of the three families that the engine knows, each booted once a process.

Every parameter is random, so that no term is zero or one by chance. Llama rounds its norm and its
softmax to float32 whatever its dtype; a last bit that differs before that makes 1e-8 of it. Here it
does neither, so that agreement in float64 can be asked for to 1e-9.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.circuits.engine import weights
from claimlens.circuits.engine.run import Run, intact_run
from claimlens.circuits.parts import Prompts
from claimlens.fixtures.default.words import VOCABULARY

Family = Literal["GPT2", "Llama", "GPTNeoX"]
Dtype = Literal["float64", "float32"]
CONTEXT = 16


@dataclass(frozen=True)
class Shape:
    """What sets one model of a family apart; `rotary` is the share of a head that is turned."""

    family: Family
    layers: int
    heads: int
    groups: int
    d_head: int
    d_mlp: int
    act: str
    tied: bool = False
    biased: bool = True
    rotary: float = 1.0

    @property
    def d_model(self) -> int:
        """Width of the residual stream: in a Llama, not that of all heads."""
        return self.heads * self.d_head if self.family != "Llama" else 12


SHAPES = (
    Shape("GPT2", 1, 2, 2, 8, 20, "gelu_new", tied=True),
    Shape("GPT2", 2, 3, 3, 4, 24, "gelu_new"),
    Shape("GPT2", 3, 2, 2, 6, 17, "gelu_new", tied=True),
    Shape("GPT2", 3, 1, 1, 8, 16, "relu"),
    Shape("GPT2", 4, 4, 4, 3, 13, "gelu_new", tied=True),
    Shape("Llama", 1, 4, 2, 4, 20, "silu", biased=False),
    Shape("Llama", 2, 4, 1, 6, 16, "silu", tied=True),
    Shape("Llama", 2, 2, 2, 4, 11, "silu", biased=False),
    Shape("Llama", 3, 6, 2, 2, 24, "silu", biased=False, tied=True),
    Shape("Llama", 4, 4, 2, 4, 18, "silu"),
    Shape("GPTNeoX", 1, 2, 2, 8, 20, "gelu", rotary=0.5),
    Shape("GPTNeoX", 2, 3, 3, 4, 24, "gelu", rotary=1.0, tied=True),
    Shape("GPTNeoX", 2, 2, 2, 8, 14, "gelu", rotary=0.25),
    Shape("GPTNeoX", 3, 1, 1, 8, 16, "gelu", rotary=0.25),
    Shape("GPTNeoX", 4, 2, 2, 6, 15, "gelu", rotary=0.34),
)
"""In two dtypes: 30 models."""


@cache
def bridge(shape: Shape, dtype: Dtype) -> Any:
    """The processed bridge of a model; the same parameters in both dtypes."""
    model = micro.boot_micro(copy.deepcopy(_raw(shape)), dtype)
    if shape.family == "Llama":
        for block in model.blocks:
            block.attn._masked_softmax = _softmax
    return model


def run(shape: Shape, dtype: Dtype, prompts: Prompts) -> Run:
    """The engine's intact run of a model, its softmax in the model's dtype as in `bridge`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "NARROW", ())
        return intact_run(bridge(shape, dtype), prompts)


@cache
def _raw(shape: Shape) -> Any:
    """The Hugging Face model in float64, every parameter random."""
    import transformers

    config = getattr(transformers, f"{shape.family}Config")(**_SETTINGS[shape.family](shape))
    kind = {"GPT2": "GPT2LMHeadModel"}.get(shape.family, f"{shape.family}ForCausalLM")
    model = getattr(transformers, kind)(config).double().eval()
    generator = torch.Generator().manual_seed(SHAPES.index(shape))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            is_norm = ("norm" in name or ".ln_" in name) and name.endswith("weight")
            weight.copy_(1 + 0.2 * noise if is_norm else 0.3 * noise)
    for module in list(model.modules()):
        for name, norm in list(module.named_children()):
            if type(norm).__name__ == "LlamaRMSNorm":
                setattr(module, name, _exact(norm))
    return model


def _shared(shape: Shape) -> dict[str, Any]:
    return {
        "vocab_size": len(VOCABULARY),
        "tie_word_embeddings": shape.tied,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "attn_implementation": "eager",
    }


def _gpt2(shape: Shape) -> dict[str, Any]:
    return _shared(shape) | {
        "n_positions": CONTEXT,
        "n_embd": shape.d_model,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_inner": shape.d_mlp,
        "activation_function": shape.act,
    }


def _rotary(shape: Shape) -> dict[str, Any]:
    return _shared(shape) | {
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": CONTEXT,
        "attention_bias": shape.biased,
        "hidden_act": shape.act,
    }


def _llama(shape: Shape) -> dict[str, Any]:
    return _rotary(shape) | {
        "num_key_value_heads": shape.groups,
        "head_dim": shape.d_head,
        "mlp_bias": shape.biased,
    }


def _neox(shape: Shape) -> dict[str, Any]:
    return _rotary(shape) | {"rotary_pct": shape.rotary}


_SETTINGS = {"GPT2": _gpt2, "Llama": _llama, "GPTNeoX": _neox}


def _exact(norm: Any) -> Any:
    """The same RMSNorm without the rounding to float32."""

    class Exact(type(norm)):  # type: ignore[misc]  # a class of transformers, which has no types
        def forward(self, x: Tensor) -> Tensor:
            scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon)
            normalised: Tensor = self.weight * (x * scale)
            return normalised

    norm.__class__ = Exact
    return norm


def _softmax(scores: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Attention's softmax without the rounding to float32: `dtype` goes unheeded."""
    return scores.softmax(-1)
