"""Small random models of other architectures, as the registry would load them.

GPT2     LayerNorm, learned positions; every parameter random
Llama    RMSNorm, rotary positions, two query heads to a key/value head, a gated MLP
GPTNeoX  LayerNorm, rotary positions on a part of a head, attention and MLP side by side
Gemma2   RMSNorm also after attention and MLP, scaled embeddings, soft-capped scores and logits
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

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


def value_bias(model: Any, layer: int, head: int) -> Tensor:
    """What one head's values are for a normalised input of 0, which compatibility mode folds into
    b_O: b_V, and the norm's bias through W_V. Zeros in a model without biases."""
    block, d_head = blocks(model)[layer], WIDTH // int(model.config.num_attention_heads)
    values: Tensor
    with torch.no_grad():
        if hasattr(model, "transformer"):  # all queries, then all keys, then all values
            values = block.attn.c_attn(block.ln_1.bias[None])[0, 2 * WIDTH :]
            return values[head * d_head :][:d_head]
        if hasattr(model, "gpt_neox"):  # head by head: its query, its key, its value
            values = block.attention.query_key_value(block.input_layernorm.bias)
            return values[(3 * head + 2) * d_head :][:d_head]
    return torch.zeros(d_head, dtype=torch.float64)


def mlp_projection(model: Any, layer: int) -> Any:
    """The module that a layer's neurons go through, in the raw model."""
    mlp = blocks(model)[layer].mlp
    if hasattr(model, "transformer"):
        return mlp.c_proj
    return mlp.dense_4h_to_h if hasattr(model, "gpt_neox") else mlp.down_proj


def projection_weights(model: Any, layer: int) -> Tensor:
    """W_out of the raw model, "d_mlp d_model"."""
    weight: Tensor = mlp_projection(model, layer).weight.detach()
    return weight if hasattr(model, "transformer") else weight.T


def final_norm(model: Any) -> Any:
    """The raw model's norm before the unembedding."""
    if hasattr(model, "transformer"):
        return model.transformer.ln_f
    return model.gpt_neox.final_layer_norm if hasattr(model, "gpt_neox") else model.model.norm


def direct(model: Any, written: Tensor) -> Tensor:
    """What vectors at the end of the residual stream add to every logit, before the final norm's
    division, over the vocabulary's mean: "row d_vocab", from the raw weights."""
    weight = final_norm(model).weight.detach()
    if hasattr(model.config, "final_logit_softcapping"):
        weight = 1 + weight  # Gemma's norm multiplies by one more than its weight
    unembedding: Tensor = model.get_output_embeddings().weight.detach()
    found: Tensor = centred(model, written) * weight @ unembedding.T
    return found - found.mean(-1, keepdim=True)


def final_scale(model: Any, tokens: Tensor) -> Tensor:
    """What the raw model's final norm divides by, "batch pos"."""
    taken: list[Tensor] = []
    with hooked(final_norm(model), lambda x: taken.append(x)), torch.no_grad():
        model(tokens)
    norm = final_norm(model)
    eps = getattr(norm, "eps", None) or norm.variance_epsilon
    scale: Tensor = (centred(model, taken[0]).square().mean(-1) + eps).sqrt()
    return scale


def centred(model: Any, x: Tensor) -> Tensor:
    """What the norm of this architecture divides: a LayerNorm takes the mean off."""
    is_layer_norm = isinstance(final_norm(model), torch.nn.LayerNorm)
    return x - x.mean(-1, keepdim=True) if is_layer_norm else x


class hooked:
    """Within this block, `change` sees what a raw module is given and may replace it."""

    def __init__(self, module: Any, change: Callable[[Tensor], Tensor | None]) -> None:
        def hook(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            new = change(args[0])
            return None if new is None else (new, *args[1:])

        self.handle = module.register_forward_pre_hook(hook)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.handle.remove()
