"""Query and key interventions on four architectures, against the raw Hugging Face models.

There the projection's own output is changed by a plain torch hook: the query of one head at END
becomes that of the model's own norm of the changed stream, before any rotation.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures
from claimlens.ci.selftests.kernels.samples import agree
from claimlens.circuits.kernels.attention import attention, attention_score
from claimlens.circuits.kernels.bridge import norm_parts
from claimlens.circuits.kernels.cache import cache
from claimlens.circuits.kernels.directions import head_output
from claimlens.circuits.kernels.query_intervention import inject
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable

HEAD = Head(1, 1)
ROUNDING = 2e-5
"""Folding is done in float32, and so is the RMSNorm of Llama and Gemma whatever the dtype."""
GROUPED = ("Llama", "Gemma2")


@pytest.fixture(params=architectures.NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def vectors(clean: Prompts) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    width = architectures.WIDTH
    return torch.randn(len(clean), width, generator=generator, dtype=torch.float64)


def read(model: Any, which: str) -> tuple[Any, Any, slice]:
    """The norm before attention, the projection, and where the head's query or key is in it."""
    block = architectures.blocks(model)[HEAD.layer]
    d_head = architectures.WIDTH // int(model.config.num_attention_heads)
    part, own = "qk".index(which), HEAD.index * d_head
    if hasattr(model, "transformer"):  # all queries, then all keys, then all values
        start = part * architectures.WIDTH + own
        return block.ln_1, block.attn.c_attn, slice(start, start + d_head)
    if hasattr(model, "gpt_neox"):  # head by head: its query, its key, its value
        start = (3 * HEAD.index + part) * d_head
        projection = block.attention.query_key_value
        return block.input_layernorm, projection, slice(start, start + d_head)
    projection = getattr(block.self_attn, f"{which}_proj")
    return block.input_layernorm, projection, slice(own, own + d_head)


def by_hand(model: Any, clean: Prompts, which: str, at: str, vector: Tensor) -> Tensor:
    """Attention weights of the layer with the vector in the head's query or key."""
    norm, projection, own = read(model, which)
    stream: list[Tensor] = []
    each, place = torch.arange(len(clean)), clean.at(at)[:, 0]

    def change(_: Any, args: Any, out: Tensor) -> Tensor:
        normal = type(norm).forward(norm, stream[0][each, place] + vector)
        new = out.clone()
        new[each, place, own] = type(projection).forward(projection, normal)[..., own]
        return new

    hooks = [
        norm.register_forward_pre_hook(lambda _, args: stream.append(args[0])),
        projection.register_forward_hook(change),
    ]
    with torch.no_grad():
        seen = model(clean.tokens, output_attentions=True).attentions[HEAD.layer]
    for hook in hooks:
        hook.remove()
    rows: Tensor = seen[each, HEAD.index, clean.at("END")[:, 0]]
    return rows[each, clean.at("IO")[:, 0]]


def test_a_query_is_that_of_the_changed_stream(name: str, clean: Prompts) -> None:
    bridge, vector = architectures.bridge(name), vectors(clean)
    expected = by_hand(architectures.raw(name), clean, "q", "END", vector)
    changed = inject(bridge, clean, HEAD, vector)
    agree(attention(changed, clean, HEAD, "END", "IO"), expected, ROUNDING)
    assert float((expected - attention(bridge, clean, HEAD, "END", "IO")).abs().max()) > 1e-3


def test_a_key_is_that_of_the_changed_stream_where_it_is_the_heads_own(
    name: str, clean: Prompts
) -> None:
    bridge, vector = architectures.bridge(name), vectors(clean)
    if name in GROUPED:
        with pytest.raises(NotApplicable, match=r"L1H1 shares its key with L1H0.*query"):
            inject(bridge, clean, HEAD, vector, into="key", at="IO")
        return
    expected = by_hand(architectures.raw(name), clean, "k", "IO", vector)
    changed = inject(bridge, clean, HEAD, vector, into="key", at="IO")
    agree(attention(changed, clean, HEAD, "END", "IO"), expected, ROUNDING)
    assert float((expected - attention(bridge, clean, HEAD, "END", "IO")).abs().max()) > 1e-3


@pytest.mark.parametrize("norm", ["free", "frozen", "after"])
def test_scale_zero_is_the_clean_run_exactly(norm: Any, name: str, clean: Prompts) -> None:
    bridge = architectures.bridge(name)
    same = inject(bridge, clean, HEAD, vectors(clean), 0.0, norm=norm)
    assert torch.equal(cache(same, clean).logits, cache(bridge, clean).logits)
    other = inject(bridge, clean, HEAD, vectors(clean), 1.0, norm=norm)
    assert bool((logit_diff(other, clean) != logit_diff(bridge, clean)).all())


def test_the_norm_by_hand_is_the_models_own(name: str, clean: Prompts) -> None:
    bridge, layer = architectures.bridge(name), HEAD.layer
    hooks = [f"blocks.{layer}.ln1.hook_{place}" for place in ("in", "scale", "out")]
    run = cache(bridge, clean, hooks)
    centred, scale = norm_parts(bridge, layer, run[hooks[0]])
    agree(scale, run[hooks[1]], ROUNDING)
    agree(centred / scale, run[hooks[2]], ROUNDING)


def test_scores_are_what_the_softmax_is_taken_of(name: str, clean: Prompts) -> None:
    bridge = architectures.bridge(name)
    gap = attention_score(bridge, clean, HEAD, "END", "IO")
    gap = gap - attention_score(bridge, clean, HEAD, "END", "S1")
    io, s1 = (attention(bridge, clean, HEAD, "END", src) for src in ("IO", "S1"))
    agree(gap, io.log() - s1.log(), ROUNDING)


def test_what_a_head_writes_where_it_writes_it_alone(name: str, clean: Prompts) -> None:
    bridge = architectures.bridge(name)
    if name == "Gemma2":
        with pytest.raises(NotApplicable, match="normalised together with the other heads"):
            head_output(bridge, clean, HEAD)
        return
    heads = [Head(HEAD.layer, index) for index in range(int(bridge.cfg.n_heads))]
    hook = f"blocks.{HEAD.layer}.hook_attn_out"
    whole = cache(bridge, clean, [hook])[hook][torch.arange(len(clean)), clean.at("END")[:, 0]]
    bias = whole - torch.stack([head_output(bridge, clean, head) for head in heads]).sum(0)
    agree(bias, bias[:1].expand_as(bias), ROUNDING)  # b_O: the same in every prompt
