"""What we need of a TransformerBridge, in one place.

Every difference between TransformerLens versions, and every assumption about its weights, is here.
All weights are the processed ones of compatibility mode: LayerNorm folded, centred.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.modules import parameters
from claimlens.circuits.parts import Head
from claimlens.circuits.verdict import NotApplicable, NotMeasured


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
    """Raise NotApplicable where the model has no such head, NotMeasured where it is no head."""
    if not isinstance(head, Head):
        raise NotMeasured(f"not a head: {head!r}; write Head(2, 0), or Head.parse('2.0')")
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
    weights: Tensor = _weights(model).blocks[head.layer].attn.W_O[head.index]  # stacks no layers
    return weights.detach()


def mlp_output_weights(model: Bridge, layer: int) -> Float[Tensor, "d_mlp d_model"]:
    """W_out of an MLP."""
    weights: Tensor = _weights(model).blocks[layer].mlp.W_out
    return weights.detach()


def mlp_output_bias(model: Bridge, layer: int) -> Float[Tensor, " d_model"]:
    """b_out of an MLP; zeros in a model without one."""
    bias: Tensor | None = getattr(_weights(model).blocks[layer].mlp, "b_out", None)
    return torch.zeros_like(mlp_output_weights(model, layer)[0]) if bias is None else bias.detach()


def mlp_input_weights(model: Bridge, layer: int) -> Float[Tensor, "d_model d_mlp"]:
    """W_in of an MLP; raises NotApplicable for a gated one, whose neurons are products."""
    block = _weights(model).blocks[layer].mlp
    if getattr(block, "W_gate", None) is not None:
        raise NotApplicable(
            f"the MLP of layer {layer} is gated: a neuron is a product of two readings of the "
            "residual stream, so no sum of components passes through it"
        )
    weights: Tensor = block.W_in
    return weights.detach()


def mlp_input_bias(model: Bridge, layer: int) -> Float[Tensor, " d_mlp"]:
    """b_in of an MLP; zeros in a model without one."""
    bias: Tensor | None = getattr(_weights(model).blocks[layer].mlp, "b_in", None)
    return torch.zeros_like(mlp_input_weights(model, layer)[0]) if bias is None else bias.detach()


def query_weights(model: Bridge, head: Head) -> Float[Tensor, "d_model d_head"]:
    """W_Q of one head; it reads the normalised residual stream."""
    check_head(model, head)
    weights: Tensor = _weights(model).blocks[head.layer].attn.W_Q[head.index]
    return weights.detach()


def key_weights(model: Bridge, head: Head) -> Float[Tensor, "d_model d_head"]:
    """W_K that one query head reads; heads of a group share it."""
    check_head(model, head)
    weights: Tensor = _weights(model).blocks[head.layer].attn.W_K[value_head(model, head)]
    return weights.detach()


def value_weights(model: Bridge, head: Head) -> Float[Tensor, "d_model d_head"]:
    """W_V that one query head reads; heads of a group share it."""
    check_head(model, head)
    weights: Tensor = _weights(model).blocks[head.layer].attn.W_V[value_head(model, head)]
    return weights.detach()


def query_bias(model: Bridge, head: Head) -> Float[Tensor, " d_head"]:
    """b_Q of one head; zeros in a model without biases."""
    bias = _bias(model, head.layer, "b_Q")
    return torch.zeros_like(query_weights(model, head)[0]) if bias is None else bias[head.index]


def key_bias(model: Bridge, head: Head) -> Float[Tensor, " d_head"]:
    """b_K of one head's group; zeros in a model without biases."""
    bias = _bias(model, head.layer, "b_K")
    shared = value_head(model, head)
    return torch.zeros_like(key_weights(model, head)[0]) if bias is None else bias[shared]


def value_bias(model: Bridge, head: Head) -> Float[Tensor, " d_head"]:
    """b_V of one head's group; zeros in a model without biases, or where it is folded into b_O."""
    bias = _bias(model, head.layer, "b_V")
    shared = value_head(model, head)
    return torch.zeros_like(value_weights(model, head)[0]) if bias is None else bias[shared]


def embedding(model: Bridge) -> Float[Tensor, "d_vocab d_model"]:
    """W_E: what each token adds to the residual stream, scaled where the model does so (Gemma)."""
    ids = torch.arange(int(model.cfg.d_vocab), device=unembedding(model).device)
    with torch.no_grad():
        rows: Tensor = _weights(model).embed(ids[None])
    return rows[0].detach()


def unembedding(model: Bridge) -> Float[Tensor, "d_model d_vocab"]:
    """W_U with the final LayerNorm's weight folded in, centred over the vocabulary."""
    weights: Tensor = _weights(model).W_U
    return weights.detach()


def unembedding_bias(model: Bridge) -> Float[Tensor, " d_vocab"]:
    """b_U with the final LayerNorm's bias folded in [logits]; zeros in a model without one."""
    bias: Tensor = _weights(model).b_U
    return bias.detach()


def input_norm(
    model: Bridge, layer: int, x: Float[Tensor, "*batch d_model"], place: Literal["ln1", "ln2"]
) -> Float[Tensor, "*batch d_model"]:
    """The normalisation before attention (ln1) or before the MLP (ln2) of a layer, applied to x."""
    return _applied(getattr(_weights(model).blocks[layer], place), x)


def norm_parts(
    model: Bridge, layer: int, x: Float[Tensor, "*batch d_model"]
) -> tuple[Float[Tensor, "*batch d_model"], Float[Tensor, "*batch 1"]]:
    """What the normalisation before a layer's attention divides, and by what: x (less its mean in
    a LayerNorm) and the scale. By hand, so that the scale can be another run's."""
    norm = _weights(model).blocks[layer].ln1
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide if norm.uses_rms_norm else wide - wide.mean(-1, keepdim=True)
    inner = norm.original_component
    eps = getattr(inner, "eps", None) or getattr(inner, "variance_epsilon", model.cfg.eps)
    return centred, (centred.square().mean(-1, keepdim=True) + float(eps)).sqrt()


def mlp(
    model: Bridge, layer: int, normalised: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """What the MLP of a layer writes for a normalised input."""
    return _applied(_weights(model).blocks[layer].mlp, normalised)


def final_norm(
    model: Bridge, x: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """The normalisation before the unembedding, applied to x."""
    return _applied(_weights(model).ln_final, x)


def parallel(model: Bridge) -> bool:
    """Whether attention and MLP of a layer read the same residual stream (GPT-NeoX)."""
    return bool(getattr(model.cfg, "parallel_attn_mlp", False))


def soft_cap(model: Bridge) -> float | None:
    """The bound c of logits that are c tanh(x / c) (Gemma 2) [logits]; None where there is none."""
    cap = float(getattr(model.cfg, "output_logits_soft_cap", None) or 0.0)
    return cap if cap > 0 else None


def output_norm(
    model: Bridge, layer: int, x: Float[Tensor, "*batch d_model"], place: Literal["attn", "mlp"]
) -> Float[Tensor, "*batch d_model"]:
    """The normalisation of what attention or the MLP wrote (Gemma 2); x itself without one."""
    norm = _output_norm(model, layer, place)
    return x if norm is None else _applied(norm, x)


def check_plain_output(model: Bridge, head: Head) -> None:
    """Raise NotApplicable where W_O is not the last thing that a head's output goes through."""
    check_head(model, head)
    if _output_norm(model, head.layer, "attn") is not None:
        raise NotApplicable(
            f"what {head} writes is normalised together with the other heads' output before it "
            "joins the residual stream: its W_OV alone does not say what it writes"
        )


def check_direct(model: Bridge, head: Head) -> None:
    """Raise NotApplicable where a head's direct effect on a logit is no sum over what it writes."""
    check_plain_output(model, head)
    _check_uncapped(model)


def check_direct_mlp(model: Bridge, layer: int) -> None:
    """The same for an MLP's direct effect; normalised again, W_out is not the last of its parts."""
    if _output_norm(model, layer, "mlp") is not None:
        raise NotApplicable(f"what MLP{layer} writes is normalised again: nothing in it just adds")
    _check_uncapped(model)


def attention_bias(model: Bridge, layer: int) -> Float[Tensor, " d_model"]:
    """b_O: what the attention of a layer writes whatever its heads do; zeros without a bias."""
    bias: Tensor | None = getattr(_weights(model).blocks[layer].attn, "b_O", None)
    return torch.zeros_like(unembedding(model)[:, 0]) if bias is None else bias.detach()


def embeds_positions(model: Bridge) -> bool:
    """Whether positions are embedded and added to the tokens (GPT-2), as by no rotary model."""
    return str(model.cfg.positional_embedding_type) == "standard"


def tied(model: Bridge) -> bool:
    """Whether the unembedding is the embedding, before folding."""
    return bool(_weights(model).original_model.config.tie_word_embeddings)


def weights_version(model: Bridge) -> int:
    """A number that changes whenever a weight is changed in place."""
    return sum(weight._version for weight in parameters(_weights(model)))


def value_head(model: Bridge, head: Head) -> int:
    """Index of the value (and key) head that a query head reads, with grouped heads."""
    groups = int(getattr(model.cfg, "n_key_value_heads", None) or model.cfg.n_heads)
    return head.index * groups // int(model.cfg.n_heads)


def writes(model: Bridge, head: Head) -> bool:
    """Whether the head can write anything at all: its output weights are not all zero."""
    return bool(torch.count_nonzero(output_weights(model, head)))


def _bias(
    model: Bridge, layer: int, name: Literal["b_Q", "b_K", "b_V"]
) -> Float[Tensor, "head d_head"] | None:
    """A bias of every head of a layer; None where TransformerLens has none: an AttributeError."""
    try:
        biases: Tensor = getattr(_weights(model).blocks[layer].attn, name)
    except AttributeError:
        return None
    return None if biases is None else biases.detach()


def _check_uncapped(model: Bridge) -> None:
    if soft_cap(model) is not None:
        raise NotApplicable(
            "this model's logits are soft-capped: no part of it just adds; ablate it instead"
        )


def _output_norm(model: Bridge, layer: int, place: Literal["attn", "mlp"]) -> Any:
    name = {"attn": "ln1_post", "mlp": "ln2_post"}[place]
    modules: Any = _weights(model).blocks[layer]._modules
    return modules.get(name)


def _applied(module: Any, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """A module of the model applied outside a forward pass, with a batch and a position axis.

    Gradients flow back to an `x` that asks for them.
    """
    with torch.set_grad_enabled(x.requires_grad):
        out: Tensor = module(rearrange(x, "... d_model -> 1 (...) d_model"))
    return out.reshape(x.shape)


def _weights(model: Bridge) -> Any:
    return model
