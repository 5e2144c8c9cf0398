"""Path patching of every head to the logits, from two forward passes.

With all other heads frozen positions don't speak to each other: what a sender changes at END passes
through the later MLPs at END alone, and these are few enough to run for all heads side by side.
Heads of earlier layers wait for those of later ones, so that each MLP runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.engine.policy import either
from claimlens.circuits.engine.run import check_source, intact_run
from claimlens.circuits.kernels.bridge import (
    Bridge,
    all_heads,
    final_norm,
    input_norm,
    mlp,
    output_weights,
    parallel,
    soft_cap,
    unembedding,
    unembedding_bias,
    weights_version,
)
from claimlens.circuits.kernels.cache import Model, cache, edit_keys, intact
from claimlens.circuits.kernels.memory import recalled
from claimlens.circuits.kernels.path_patch import Mlps
from claimlens.circuits.metrics import answer_tokens
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotApplicable

CLOSE = 1e-3
"""Largest disagreement with the model's own residual stream, as a share of it."""
Effects = Callable[[], Float[Tensor, "batch layer head"]]


def path_effects(
    model: Model, prompts: Prompts, source: Prompts, mlps: Mlps = "recomputed"
) -> Float[Tensor, "batch layer head"]:
    """`path_effect` of each head alone to the logits [logits], for all heads at once.

    Exact, the final LayerNorm free: with `mlps="frozen"` each head's direct effect, else also what
    the later MLPs make of it (Wang et al. 2022, figure 3b). Raises NotApplicable for models that
    normalise what heads or MLPs write (Gemma 2) or whose residual stream is edited: there use
    `path_effect`, head by head.
    """

    def plain() -> Float[Tensor, "batch layer head"]:
        return _effects(model, prompts, _by_hooks(model, prompts, source), mlps)

    def fast() -> Float[Tensor, "batch layer head"]:
        """An edited model's two runs are made with hooks; no head needs another in either case."""
        if edit_keys(model):
            return plain()
        return _effects(model, prompts, _by_engine(model, prompts, source), mlps)

    key = _key(model, prompts, source, mlps)

    def kept(way: str, effects: Effects) -> Float[Tensor, "batch layer head"]:
        if key is None:
            return effects()
        return recalled((*key, way), (model, prompts, source), effects)

    return either("path_effects", lambda: kept("engine", fast), lambda: kept("hooks", plain))


def _key(
    model: Model, prompts: Prompts, source: Prompts, mlps: Mlps
) -> tuple[Hashable, ...] | None:
    """All that changes the numbers; None where an edit cannot say what it does."""
    bridge, edits = intact(model), edit_keys(model)
    if None in edits:
        return None
    made_of = (id(bridge), weights_version(bridge), edits, id(prompts), id(source))
    return ("path effects", *made_of, mlps)


@dataclass(frozen=True, eq=False)
class _Ends:
    """What stands at END, layer by layer: the final stream, how z moves from one run to the other,
    what an MLP is given and writes; and an MLP for other streams."""

    final: Float[Tensor, "batch d_model"]
    moved: list[Float[Tensor, "batch head d_head"]]
    mlp_in: list[Float[Tensor, "batch d_model"]]
    mlp_out: list[Float[Tensor, "batch d_model"]]
    mlp: Callable[[int, Float[Tensor, "cell batch d_model"]], Float[Tensor, "cell batch d_model"]]

    def heard(
        self, layer: int, change: Float[Tensor, "cell batch d_model"]
    ) -> Float[Tensor, "cell batch d_model"]:
        """What a layer's MLP adds for each changed stream; exactly nothing for an unchanged one."""
        added = self.mlp(layer, self.mlp_in[layer] + change) - self.mlp_out[layer]
        return torch.where((change != 0).any(-1, keepdim=True), added, 0.0)


def _effects(
    model: Model, prompts: Prompts, ends: _Ends, mlps: Mlps
) -> Float[Tensor, "batch layer head"]:
    bridge, change = intact(model), ends.final[None][:0]
    with torch.no_grad():
        for layer, moved in enumerate(ends.moved):
            sent = _written(bridge, layer, moved)
            hears = change if parallel(bridge) else torch.cat([change, sent])
            if mlps == "recomputed":
                hears = hears + ends.heard(layer, hears)
            change = torch.cat([hears, sent]) if parallel(bridge) else hears
        found = _logit_diff(bridge, prompts, torch.cat([ends.final + change, ends.final[None]]))
    effects = torch.where((change != 0).any(-1), found[:-1] - found[-1], 0.0)
    return rearrange(effects, "(layer head) batch -> batch layer head", layer=len(ends.moved))


def _by_engine(model: Model, prompts: Prompts, source: Prompts) -> _Ends:
    run, other = intact_run(model, prompts), intact_run(model, source)
    check_source(run, other)
    layers, end = range(run.layers), _end(prompts)
    return _Ends(
        final=run.pre[-1][end],
        moved=[other.z[n][end] - run.z[n][end] for n in layers],
        mlp_in=[run.mid(n)[end] for n in layers],
        mlp_out=[run.mlp_out[n][end] for n in layers],
        mlp=lambda layer, x: run.weights.layers[layer].mlp(x),
    )


def _by_hooks(model: Model, prompts: Prompts, source: Prompts) -> _Ends:
    """Raises NotApplicable where a layer of the model is not what is computed here."""
    bridge = intact(model)
    depth = int(bridge.cfg.n_layers)
    z, wrote, before = (
        [f"blocks.{n}.{name}" for n in range(depth)]
        for name in ("attn.hook_z", "hook_attn_out", "hook_resid_pre")
    )
    streams = [*before, f"blocks.{depth - 1}.hook_resid_post"]
    run, other = cache(model, prompts, [*streams, *wrote, *z]), cache(model, source, z)

    def written(layer: int, x: Float[Tensor, "*cell batch d"]) -> Float[Tensor, "*cell batch d"]:
        return mlp(bridge, layer, input_norm(bridge, layer, x, "ln2"))

    end = _end(prompts)
    stream = [run[name][end] for name in streams]
    attention = [run[name][end] for name in wrote]
    heard = stream if parallel(bridge) else [a + b for a, b in zip(stream, attention, strict=False)]
    mlp_out = [written(layer, heard[layer]) for layer in range(depth)]
    for layer in range(depth):
        _check(layer, stream[layer] + attention[layer] + mlp_out[layer], stream[layer + 1])
    moved = [other[name][end] - run[name][end] for name in z]
    return _Ends(stream[-1], moved, heard, mlp_out, written)


def _written(
    bridge: Bridge, layer: int, moved: Float[Tensor, "batch head d_head"]
) -> Float[Tensor, "head batch d_model"]:
    """Changes of z through each head's W_O."""
    heads = [head for head in all_heads(bridge) if head.layer == layer]
    weights = torch.stack([output_weights(bridge, head) for head in heads])
    return einsum(moved, weights, "batch head e, head e d -> head batch d")


def _logit_diff(
    bridge: Bridge, prompts: Prompts, final: Float[Tensor, "cell batch d_model"]
) -> Float[Tensor, "cell batch"]:
    """Logit difference that a final residual stream gives."""
    unembed, bias = unembedding(bridge).T, unembedding_bias(bridge)
    cap, normalised = soft_cap(bridge), final_norm(bridge, final)
    answer, wrong = (
        einsum(normalised, unembed[token], "cell batch d, batch d -> cell batch") + bias[token]
        for token in answer_tokens(prompts)
    )
    if cap is not None:
        answer, wrong = (cap * torch.tanh(logit / cap) for logit in (answer, wrong))
    return answer - wrong


def _end(prompts: Prompts) -> tuple[Int[Tensor, " batch"], Int[Tensor, " batch"]]:
    """Prompts and positions that index the rows of an activation at END."""
    end = prompts.at("END")[:, 0]
    return torch.arange(len(end), device=end.device), end


def _check(
    layer: int, ours: Float[Tensor, "batch d_model"], theirs: Float[Tensor, "batch d_model"]
) -> None:
    """Raise NotApplicable where the model's layer is not what is computed here."""
    if float((ours - theirs).abs().max()) > CLOSE * float(theirs.abs().max()):
        raise NotApplicable(
            f"layer {layer} does not add attention and an MLP of the normalised stream: the "
            "model normalises what they write, or is edited there; use path_effect"
        )
