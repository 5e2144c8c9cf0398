"""Ablations: a model whose heads write something else.

All but `zero_values` replace z, the attention-weighted values before W_O, at every position. Each
returns an edited model that any kernel takes in the model's place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.bridge import Bridge, all_heads, check_head, value_head
from claimlens.circuits.kernels.cache import Edit, Edited, Model, cache, edit_keys, edited, intact
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

Heads = Head | Sequence[Head]


def zero_ablate(model: Model, heads: Heads) -> Edited:
    """The model with the output of `heads` set to zero."""
    edits = (_edit(model, head, torch.zeros_like, "zero", None) for head in many(heads))
    return edited(model, *edits)


def resample_ablate(model: Model, heads: Heads, corrupted: Prompts) -> Edited:
    """The model with z of `heads` taken from the corrupted run, prompt by prompt.

    Must be run on the clean side of the same pairs: same rows, same lengths.
    """
    taken = {head: z_of(model, corrupted, head) for head in many(heads)}
    return edited(model, *(_constant(model, h, z, "resample", corrupted) for h, z in taken.items()))


def mean_ablate(model: Model, heads: Heads, over: Prompts) -> Edited:
    """The model with z of `heads` replaced by its mean over `over`, per template and position.

    With `over` the ABC prompts this is the knockout of Wang et al. 2022, section 2.1. Must be run
    on prompts with the templates of `over`, row by row.
    """
    means = {head: template_mean(z_of(model, over, head), over) for head in many(heads)}
    return edited(model, *(_constant(model, h, z, "mean", over) for h, z in means.items()))


def zero_values(model: Model, heads: Heads) -> Edited:
    """The model with the values of `heads` set to zero, before attention weighs them (seed 002).

    Where every head has values of its own this is `zero_ablate`. Query heads of one group share
    their values (grouped-query attention), so `heads` must then hold whole groups: raises
    NotApplicable for a part of one. The value bias is folded into b_O and stays.
    """
    bridge, chosen = intact(model), many(heads)
    for head in chosen:
        check_head(bridge, head)
    shared = sorted({(head.layer, value_head(bridge, head)) for head in chosen})
    for layer, group in shared:
        _check_group(bridge, layer, group, chosen)
    return edited(model, *(_zero_value(layer, group) for layer, group in shared))


def many(heads: Heads) -> tuple[Head, ...]:
    """One head or several, as a tuple."""
    return (heads,) if isinstance(heads, Head) else tuple(heads)


def z_of(model: Model, prompts: Prompts, head: Head) -> Float[Tensor, "batch pos d_head"]:
    """z of one head: attention-weighted values, before W_O."""
    check_head(intact(model), head)
    name = _z(head)
    return cache(model, prompts, [name])[name][:, :, head.index]


def template_mean(
    z: Float[Tensor, "batch pos d_head"], prompts: Prompts
) -> Float[Tensor, "batch pos d_head"]:
    """Each prompt's z replaced by the mean over the prompts of its template, per position.

    Raises ValueError where prompts of one template differ in length: positions don't correspond.
    """
    mean = torch.empty_like(z)
    for template in sorted(set(prompts.templates)):
        rows = torch.tensor([i for i, t in enumerate(prompts.templates) if t == template])
        rows = rows.to(z.device)
        if len(set(prompts.lengths[rows].tolist())) > 1:
            raise ValueError(
                f"prompts of template {template!r} differ in length: no mean per place"
            )
        mean[rows] = z[rows].mean(0)
    return mean


def _check_group(bridge: Bridge, layer: int, group: int, chosen: tuple[Head, ...]) -> None:
    sharing = [
        head
        for head in all_heads(bridge)
        if head.layer == layer and value_head(bridge, head) == group
    ]
    if left := [head for head in sharing if head not in chosen]:
        raise NotApplicable(
            f"heads {', '.join(map(str, sharing))} share their values, so those of some cannot be "
            f"ablated without {', '.join(map(str, left))}; name them all, or use zero_ablate"
        )


def _zero_value(layer: int, group: int) -> Edit:
    def apply(
        v: Float[Tensor, "batch pos group d_head"],
    ) -> Float[Tensor, "batch pos group d_head"]:
        changed = v.clone()
        changed[:, :, group] = 0
        return changed

    what = f"zero ablation of values {group} of layer {layer}"
    return Edit(f"blocks.{layer}.attn.hook_v", apply, what, key=("zero values", layer, group))


def _z(head: Head) -> str:
    return f"blocks.{head.layer}.attn.hook_z"


def _constant(model: Model, head: Head, value: Tensor, kind: str, source: Prompts) -> Edit:
    return _edit(model, head, lambda old: value, kind, source)


def _edit(
    model: Model, head: Head, new: Callable[[Tensor], Tensor], kind: str, source: Prompts | None
) -> Edit:
    check_head(intact(model), head)

    def apply(z: Float[Tensor, "batch pos head d_head"]) -> Float[Tensor, "batch pos head d_head"]:
        own = z[:, :, head.index]
        given = new(own)
        if given.shape != own.shape:  # assigning it would spread one prompt over all
            raise NotMeasured(
                f"{kind} ablation of {head}: the source has {len(given)} prompts of "
                f"{given.shape[1]} positions, these are {len(own)} of {own.shape[1]}; "
                "take both from the same pairs"
            )
        changed = z.clone()
        changed[:, :, head.index] = given
        return changed

    before = edit_keys(model)
    tokens, lengths = (None, None) if source is None else (source.tokens, source.lengths)
    key = None if None in before else (kind, head, id(tokens), before)
    what = f"{kind} ablation of {head}"
    return Edit(_z(head), apply, what, key=key, holds=tokens, lengths=lengths)
