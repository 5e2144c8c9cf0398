"""A layer's normalisation before attention, held at the scale of the unedited run.

From seed 000: `patch_ln_scale`, which `causal_write_into_component(freeze_layernorm=True)` hooks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.bridge import Bridge, norm_parts
from claimlens.circuits.kernels.cache import Edit, Edited, Model, cache, edited, intact
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured


@dataclass(frozen=True, eq=False)
class FrozenNorm(Edit):
    """The edit that holds the normalisation of `layer` at `scale`."""

    layer: int = -1
    scale: Float[Tensor, "batch pos 1"] | None = None


def freeze_norm(model: Model, prompts: Prompts, layer: int) -> Edited:
    """The model whose normalisation before the attention of `layer` divides by the clean scale.

    That of the unedited model on `prompts`, at every position and so for the query, key and value
    of every head: with the stream r of the run under way they read (r - mean r) / scale_clean.
    Without other edits this is the clean run exactly, a declared no-op; with heads ablated earlier
    it is not. Ablate before or after; `inject` after: what it adds before the normalisation is then
    divided by the same scale. Must be run on `prompts`. From seed 000, `patch_ln_scale`.

    Raises NotApplicable for a layer that the model lacks, ValueError for a model with an injection
    in this layer, NotMeasured where query inputs are split (TransformerLens then makes them of
    other normalisations, which this leaves as they are) and on other prompts.
    """
    layers = int(intact(model).cfg.n_layers)
    if not 0 <= layer < layers:
        raise NotApplicable(f"the model has no layer {layer}: it has {layers}, from 0")
    if _injected(model, layer):
        raise ValueError(f"heads of layer {layer} were injected into; freeze first, then inject")
    held = _Held(intact(model), layer, scale_of(intact(model), prompts, layer))
    what, key = held.what, ("freeze norm", layer, digest(held.scale))
    return edited(
        model,
        Edit(input_hook(layer), held.look, what, noop=True, key=("look", layer)),
        FrozenNorm(
            f"blocks.{layer}.ln1.hook_out",
            held.apply,
            what,
            noop=True,
            key=key,
            lengths=prompts.lengths,
            layer=layer,
            scale=held.scale,
        ),
    )


@dataclass(eq=False)
class _Held:
    """What the normalisation of a layer gave in the run under way, over another scale."""

    bridge: Bridge
    layer: int
    scale: Float[Tensor, "batch pos 1"]
    seen: Float[Tensor, "batch pos d_model"] | None = None

    @property
    def what(self) -> str:
        return f"the clean scale of the normalisation before the attention of layer {self.layer}"

    def look(self, own: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """Keep what the normalisation is given in this run."""
        self.seen = own
        return own

    def apply(self, out: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """What it gave, times its own scale over the clean one: exactly 1 where they are equal."""
        if getattr(self.bridge.cfg, "use_split_qkv_input", False):
            raise NotMeasured(
                f"{self.what}: query, key and value inputs are split, where it has no effect; call "
                "model.set_use_split_qkv_input(False)"
            )
        own, self.seen = self.seen, None
        if own is None or own.shape[:2] != self.scale.shape[:2]:
            raise NotMeasured(
                f"{self.what}: frozen for {tuple(self.scale.shape)}, this run has "
                f"{tuple(out.shape)}; run it on the prompts it was made for"
            )
        return (out * (norm_parts(self.bridge, self.layer, own)[1] / self.scale)).to(out.dtype)


def scale_of(model: Model, prompts: Prompts, layer: int) -> Float[Tensor, "batch pos 1"]:
    """The scale of the normalisation before the attention of a layer, in a run of its own."""
    hook = input_hook(layer)
    return norm_parts(intact(model), layer, cache(model, prompts, [hook])[hook])[1]


def frozen_scale(model: Model, layer: int) -> Float[Tensor, "batch pos 1"] | None:
    """The scale at which the normalisation of a layer is held; None where it is free."""
    edits = model.edits if isinstance(model, Edited) else ()
    held = [edit.scale for edit in edits if isinstance(edit, FrozenNorm) and edit.layer == layer]
    return held[-1] if held else None


def input_hook(layer: int) -> str:
    """The hook on what the normalisation before attention is given."""
    return f"blocks.{layer}.ln1.hook_in"


def digest(tensor: Tensor | None) -> str:
    """Everything in a tensor, in short: equal tensors share a run, whichever object holds them."""
    if tensor is None:
        return ""
    data = tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + data).hexdigest()


def _injected(model: Model, layer: int) -> bool:
    edits = model.edits if isinstance(model, Edited) else ()
    keys = [edit.key for edit in edits if isinstance(edit.key, tuple)]
    return any(key[0] == "inject" and key[1].layer == layer for key in keys)
