"""Small random models of other architectures, as the registry would load them.

GPT2     LayerNorm, learned positions; every parameter random
Llama    RMSNorm, rotary positions, two query heads to a key/value head, a gated MLP
GPTNeoX  LayerNorm, rotary positions on a part of a head, attention and MLP side by side
Gemma2   RMSNorm also after attention and MLP, scaled embeddings, soft-capped scores and logits
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from claimlens.ci.selftests import micro
from claimlens.fixtures.default.words import VOCABULARY

NAMES = ("GPT2", "Llama", "GPTNeoX", "Gemma2")
LAYERS, HEADS, WIDTH = 2, 4, 32
SPECIAL: dict[str, dict[str, Any]] = {
    "Llama": {"num_key_value_heads": 2},
    "GPTNeoX": {},
    "Gemma2": {"num_key_value_heads": 2, "head_dim": WIDTH // HEADS},
}


@cache
def raw(name: str) -> Any:
    """The Hugging Face model in float64: what any kernel's clean run must agree with."""
    if name == "GPT2":
        return micro.random_model()
    import transformers

    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(VOCABULARY),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=micro.CONTEXT,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        attn_implementation="eager",
        **SPECIAL[name],
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


@cache
def bridge(name: str) -> Any:
    """The processed bridge of a copy of `raw(name)`."""
    import copy

    return micro.boot_micro(copy.deepcopy(raw(name)))


def blocks(model: Any) -> Any:
    """The layers of the raw model, in order."""
    if hasattr(model, "transformer"):
        return model.transformer.h
    return model.gpt_neox.layers if hasattr(model, "gpt_neox") else model.model.layers


def output_projection(model: Any, layer: int) -> Any:
    """The module that every head's z of a layer goes through, in the raw model."""
    block = blocks(model)[layer]
    if hasattr(model, "transformer"):
        return block.attn.c_proj
    return block.attention.dense if hasattr(model, "gpt_neox") else block.self_attn.o_proj
