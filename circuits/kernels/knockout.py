"""Knock-outs: a model without some of its heads, or with nothing but a circuit.

Nodes are heads, at every position or at one label alone, as in Wang et al. 2022
(arXiv:2211.00593), section 2.1; the MLPs stay as they are. What replaces a knocked-out z matters
as much as the circuit does (Miller et al. 2024, arXiv:2407.08734), so the kind is always said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from claimlens.circuits.kernels.bridge import check_head, weights_version
from claimlens.circuits.kernels.cache import Edit, Edited, Model, cache, edit_keys, edited, intact
from claimlens.circuits.kernels.memory import Memory, recalled, remembering
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

Kind = Literal["zero", "mean", "template mean", "resample"]
"""What replaces z: zero; its mean over all prompts and positions of the source; its mean over the
source's prompts of the same template, per position; the source's z, prompt by prompt."""
ROWS = 64
"""Prompts of a source of means that are run at once."""


@dataclass(frozen=True)
class Node:
    """A head at one labelled position (`S2`), or at all of them; printed `L9H9@END`."""

    head: Head
    at: str | None = None

    def __str__(self) -> str:
        return f"{self.head}@{self.at}" if self.at else str(self.head)


Nodes = Sequence[Head | Node]


def knockout(
    model: Model, prompts: Prompts, nodes: Nodes, kind: Kind, source: Prompts | None = None
) -> Edited:
    """The model with z of `nodes` replaced; must be run on `prompts`.

    `source` gives what replaces it (not needed for zero), usually the ABC prompts: the same rows to
    resample, any number of prompts of the same templates for means. Take many: a mean over one or
    two prompts of a template is nearly one resample. Raises ValueError without a source that fits,
    NotMeasured where z already was that.
    """
    return _replaced(model, prompts, _mask(model, prompts, nodes), kind, source, _named(nodes))


def isolate(
    model: Model, prompts: Prompts, circuit: Nodes, kind: Kind, source: Prompts | None = None
) -> Edited:
    """The circuit alone: every head outside it knocked out, and its own outside their positions.

    Must be run on `prompts`; arguments and errors as for `knockout`.
    """
    outside = ~_mask(model, prompts, circuit)
    return _replaced(model, prompts, outside, kind, source, f"all but {_named(circuit)}")


def without(circuit: Nodes, removed: Nodes) -> tuple[Node, ...]:
    """The nodes of `circuit` that are not in `removed`.

    Raises NotApplicable for one that it never had: what is not there cannot be taken away.
    """
    mine, gone = tuple(map(node_of, circuit)), set(map(node_of, removed))
    if strangers := gone - set(mine):
        named = ", ".join(sorted(map(str, strangers)))
        raise NotApplicable(f"not in the circuit: {named}; remove only what it has")
    return tuple(node for node in mine if node not in gone)


def node_of(node: Head | Node) -> Node:
    """A bare head means all positions."""
    return Node(node) if isinstance(node, Head) else node


def check_kind(kind: str) -> None:
    """Raise ValueError for what is no kind of ablation."""
    if kind not in get_args(Kind):
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(get_args(Kind))}")


def _mask(model: Model, prompts: Prompts, nodes: Nodes) -> Bool[Tensor, "layer batch pos head"]:
    """Where the nodes are."""
    bridge, tokens = intact(model), prompts.tokens
    mask = tokens.new_zeros(
        (int(bridge.cfg.n_layers), *tokens.shape, int(bridge.cfg.n_heads)), dtype=torch.bool
    )
    rows = torch.arange(len(tokens), device=tokens.device)[:, None]
    for node in map(node_of, nodes):
        check_head(bridge, node.head)
        mine = mask[node.head.layer, :, :, node.head.index]
        if node.at is None:
            mine[:] = True
        else:
            mine[rows, prompts.at(node.at)] = True
    return mask


def _replaced(
    model: Model,
    prompts: Prompts,
    mask: Bool[Tensor, "layer batch pos head"],
    kind: Kind,
    source: Prompts | None,
    what: str,
) -> Edited:
    """Edits of z, one a layer; none in a layer that keeps all of its heads."""
    layers = [layer for layer in range(len(mask)) if bool(mask[layer].any())]
    new = _replacements(model, prompts, layers, kind, source)
    before = edit_keys(model)
    edits = []
    for layer in layers:
        heads = tuple(mask[layer].any(0).any(0).nonzero()[:, 0].tolist())
        place = f"{kind} knock-out of {what} in layer {layer}"
        key = (kind, layer, heads, what, id(prompts), id(source), before)
        edits.append(
            Edit(
                _z(layer),
                _where(mask[layer], new[layer], place),
                place,
                key=None if None in before else key,
                holds=(prompts, source, mask),
                lengths=source.lengths if source is not None and kind == "resample" else None,
            )
        )
    return edited(model, *edits)


def _replacements(
    model: Model, prompts: Prompts, layers: Sequence[int], kind: Kind, source: Prompts | None
) -> dict[int, Float[Tensor, "source place #head #d_head"]]:
    check_kind(kind)
    if kind == "zero":
        return {layer: torch.zeros(1, 1, 1, 1, device=prompts.tokens.device) for layer in layers}
    if source is None:
        raise ValueError(f"a {kind} knock-out needs the prompts to take z from; give source=…")
    if kind == "resample":
        run = cache(model, source, _all_z(model))
        return {layer: run[_z(layer)] for layer in layers}
    if kind == "template mean":
        width, mine = prompts.tokens.shape[1], _own_template(source, prompts)
        means = _means(model, source, kind)
        return {layer: means[layer][mine, :width] for layer in layers}
    return dict(enumerate(_means(model, source, kind)))


def _means(
    model: Model, source: Prompts, kind: Kind
) -> Float[Tensor, "layer template place head d_head"]:
    """Mean z of every head, by template and place or over all of them; computed once."""
    bridge, edits = intact(model), edit_keys(model)
    if None in edits:
        return _averaged(model, source, kind)
    key = ("mean z", kind, id(bridge), weights_version(bridge), edits, id(source))
    return recalled(key, (model, source), lambda: _averaged(model, source, kind))


def _averaged(
    model: Model, source: Prompts, kind: Kind
) -> Float[Tensor, "layer template place head d_head"]:
    """A source can be large, so it is run in pieces, and none of these runs is kept."""
    places = torch.arange(source.tokens.shape[1], device=source.lengths.device)
    inside = places < source.lengths[:, None]
    codes = _codes(source, source.templates)
    share = torch.nn.functional.one_hot(codes).T
    names, rows = _all_z(model), torch.arange(len(source), device=codes.device)
    total: Tensor | None = None
    with remembering(Memory(max_bytes=0)):
        for some in torch.split(rows, len(source) if isinstance(model, Edited) else ROWS):
            run = cache(model, source if len(some) == len(source) else source.select(some), names)
            z = torch.stack([run[name] for name in names])
            z = z.to(torch.promote_types(z.dtype, torch.float32))
            if kind == "mean":
                weights = inside[some].to(z) / inside.sum()
                added = einsum(weights, z, "s p, l s p h d -> l h d")[:, None, None]
            else:
                weights = share[:, some].to(z) / share.sum(1, keepdim=True)
                added = einsum(weights, z, "t s, l s p h d -> l t p h d")
            total = added if total is None else total + added
    assert total is not None
    return total.to(run[names[0]].dtype)


def _own_template(source: Prompts, prompts: Prompts) -> Int[Tensor, " batch"]:
    """The place of each prompt's template among those of the source.

    Raises ValueError where the source has none of it, or where they differ in length: places don't
    correspond.
    """
    theirs, ours = _codes(source, source.templates), _codes(source, prompts.templates)
    same = ours[:, None] == theirs
    misfit = same & (prompts.lengths[:, None] != source.lengths)
    bad = (misfit.any(1) | ~same.any(1)).nonzero()[:, 0].tolist()
    if bad:
        raise ValueError(
            f"template {prompts.templates[bad[0]]!r}: the source has {int(same[bad[0]].sum())} "
            f"prompts of it, and not all are {int(prompts.lengths[bad[0]])} tokens long as this "
            "one: no mean per place"
        )
    return ours


def _codes(source: Prompts, templates: Sequence[str]) -> Int[Tensor, " prompt"]:
    """Templates as numbers, in the order of the source's; -1 for one that it has not."""
    numbers = {name: code for code, name in enumerate(sorted(set(source.templates)))}
    return torch.tensor([numbers.get(t, -1) for t in templates], device=source.lengths.device)


def _where(
    mask: Bool[Tensor, "batch pos head"], new: Float[Tensor, "source place #head #d"], what: str
) -> Callable[[Tensor], Tensor]:
    """Put `new` where the mask says."""

    def apply(z: Float[Tensor, "batch pos head d_head"]) -> Float[Tensor, "batch pos head d_head"]:
        fits = {1, z.shape[0]} >= {new.shape[0]} and {1, z.shape[1]} >= {new.shape[1]}
        if mask.shape != z.shape[:3] or not fits:
            raise NotMeasured(
                f"{what}: made for {tuple(mask.shape[:2])} prompts and positions from a source of "
                f"{tuple(new.shape[:2])}, run on {tuple(z.shape[:2])}; take all from the same pairs"
            )
        return torch.where(mask[..., None], new.to(z.dtype), z)

    return apply


def _named(nodes: Nodes) -> str:
    return ", ".join(map(str, nodes)) or "nothing"


def _all_z(model: Model) -> list[str]:
    return [_z(layer) for layer in range(int(intact(model).cfg.n_layers))]


def _z(layer: int) -> str:
    return f"blocks.{layer}.attn.hook_z"
