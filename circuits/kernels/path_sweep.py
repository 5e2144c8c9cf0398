"""Path patching of every head to the logits, from two forward passes.

With all other heads frozen positions don't speak to each other: what a sender changes at END passes
through the later MLPs at END alone, and these are few enough to run for all heads side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.engine.frozen_paths import frozen_path_effects
from claimlens.circuits.engine.policy import either
from claimlens.circuits.kernels.bridge import (
    Bridge,
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
from claimlens.circuits.kernels.memory import Cache, recalled
from claimlens.circuits.kernels.path_patch import Mlps
from claimlens.circuits.metrics import answer_tokens
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable

Effects = Callable[[], Float[Tensor, "batch layer head"]]
CLOSE = 1e-3
"""Largest disagreement with the model's own residual stream, as a share of it."""


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
        return _effects(model, prompts, source, mlps)

    def fast() -> Float[Tensor, "batch layer head"]:
        """An edited model's two runs are made with hooks; no head needs another in either case."""
        if edit_keys(model):
            return plain()
        return frozen_path_effects(model, prompts, source, mlps == "recomputed")

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


def _effects(
    model: Model, prompts: Prompts, source: Prompts, mlps: Mlps
) -> Float[Tensor, "batch layer head"]:
    end = _End(model, prompts)
    others = cache(model, source, end.z_names)
    clean = end.logit_diff(rearrange(end.stream[-1], "b d -> b 1 d"))
    effects = []
    for layer in range(len(end.mlp_in)):
        change = end.written(layer, others)
        if mlps == "recomputed":
            change = end.through_mlps(layer, change)
        effects.append(end.logit_diff(end.stream[-1][:, None] + change) - clean)
    return torch.stack(effects, 1)


class _End:
    """The residual stream at END of one run, and how a change of it travels."""

    def __init__(self, model: Model, prompts: Prompts) -> None:
        self.model, self.prompts = model, prompts
        self.bridge: Bridge = intact(model)
        self.parallel = parallel(self.bridge)
        layers = range(int(self.bridge.cfg.n_layers))
        self.z_names = [f"blocks.{n}.attn.hook_z" for n in layers]
        before = [f"blocks.{n}.hook_resid_pre" for n in layers]
        wrote = [f"blocks.{n}.hook_attn_out" for n in layers]
        last = f"blocks.{layers[-1]}.hook_resid_post"
        run = cache(model, prompts, [*before, *wrote, *self.z_names, last])
        self.stream = [self.at_end(run[name]) for name in (*before, last)]
        self.z = [self.at_end(run[name]) for name in self.z_names]
        self.mlp_in, self.mlp_out = [], []
        for n in layers:
            attention = self.at_end(run[wrote[n]])
            self.mlp_in.append(self.stream[n] if self.parallel else self.stream[n] + attention)
            self.mlp_out.append(self.mlp(n, self.mlp_in[n]))
            self.check(n, self.stream[n] + attention + self.mlp_out[n])

    def written(self, layer: int, others: Cache) -> Float[Tensor, "batch head d_model"]:
        """What each head of a layer writes at END in another run, less what it writes here."""
        change = self.at_end(others[self.z_names[layer]]) - self.z[layer]
        heads = [Head(layer, index) for index in range(change.shape[1])]
        weights = torch.stack([output_weights(self.bridge, head) for head in heads])
        return einsum(change, weights, "b head d_head, head d_head d -> b head d")

    def through_mlps(
        self, layer: int, change: Float[Tensor, "batch head d_model"]
    ) -> Float[Tensor, "batch head d_model"]:
        """A change made by the heads of a layer, with all that later MLPs add to it."""
        for n in range(layer + self.parallel, len(self.mlp_in)):
            heard = self.mlp(n, self.mlp_in[n][:, None] + change)
            change = change + heard - self.mlp_out[n][:, None]
        return change

    def logit_diff(self, final: Float[Tensor, "batch head d_model"]) -> Float[Tensor, "batch head"]:
        """Logit difference that a final residual stream gives."""
        unembed, bias = unembedding(self.bridge).T, unembedding_bias(self.bridge)
        cap, normalised = soft_cap(self.bridge), final_norm(self.bridge, final)
        answer, wrong = (
            einsum(normalised, unembed[token], "b head d, b d -> b head") + bias[token][:, None]
            for token in answer_tokens(self.prompts)
        )
        if cap is not None:
            answer, wrong = (cap * torch.tanh(logit / cap) for logit in (answer, wrong))
        return answer - wrong

    def mlp(self, layer: int, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """What the MLP of a layer writes for a residual stream."""
        return mlp(self.bridge, layer, input_norm(self.bridge, layer, x, "ln2"))

    def at_end(self, x: Tensor) -> Tensor:
        """The rows of an activation at END: [batch, pos, …] to [batch, …]."""
        return x[torch.arange(len(x), device=x.device), self.prompts.at("END")[:, 0]]

    def check(self, layer: int, ours: Float[Tensor, "batch d_model"]) -> None:
        """Raise NotApplicable where the model's layer is not what is computed here."""
        theirs = self.stream[layer + 1]
        if float((ours - theirs).abs().max()) > CLOSE * float(theirs.abs().max()):
            raise NotApplicable(
                f"layer {layer} does not add attention and an MLP of the normalised stream: the "
                "model normalises what they write, or is edited there; use path_effect"
            )
