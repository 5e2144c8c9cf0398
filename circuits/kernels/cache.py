"""Run a model once, with edits, and keep named activations.

Every forward of claimlens happens here. An edited model is the model together with its edits, and
any kernel takes it in the model's place: `logit_diff(zero_ablate(model, head), prompts)`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from claimlens.circuits.kernels.bridge import Bridge, hook_names, weights_version
from claimlens.circuits.kernels.memory import Cache, current
from claimlens.circuits.parts import Position, Prompts
from claimlens.circuits.verdict import NotMeasured


@dataclass(frozen=True, eq=False)
class Edit:
    """A change of one activation: at the named hook, `apply` maps the old value to the new one.

    An edit that leaves the activation as it was is an error unless `noop` declares it. `key` says
    what the edit does by everything that changes its numbers (objects by identity, which `holds`
    keeps alive), so that equal edits can share a run; None where that cannot be said. With `at`,
    `apply` sees and changes only that labelled position of the prompts it is run on.
    """

    hook: str
    apply: Callable[[Tensor], Tensor]
    what: str
    noop: bool = False
    key: Hashable = None
    holds: object = None
    at: Position | None = None


@dataclass(frozen=True, eq=False)
class Edited:
    """A model together with edits of its forward pass."""

    model: Bridge
    edits: tuple[Edit, ...]


Model = Bridge | Edited


def edited(model: Model, *edits: Edit) -> Edited:
    """The model with these edits after any it already has."""
    if isinstance(model, Edited):
        return Edited(model.model, model.edits + edits)
    return Edited(model, edits)


def intact(model: Model) -> Bridge:
    """The model itself, without edits: for its weights."""
    return model.model if isinstance(model, Edited) else model


def cache(model: Model, prompts: Prompts, names: Sequence[str] = ()) -> Cache:
    """Run `prompts` and return the logits with the activations of the named hooks.

    Raises NotMeasured for a hook that the model lacks or that did not fire, where an edit changed
    nothing, and where a logit is not finite.
    """
    memory, key = current(), _key(model, prompts)
    if memory is None or key is None:
        return _forward(model, prompts, names)
    known = memory.find(key)
    missing = [n for n in names if known is None or n not in known.activations]
    if known is None or missing:
        fresh = _forward(model, prompts, missing)
        activations = {**(known.activations if known else {}), **fresh.activations}
        known = Cache(fresh.logits, activations)
        memory.keep(key, known, held=(model, prompts))
    return known


def edit_keys(model: Model) -> tuple[Hashable, ...]:
    """What the edits of a model do, in order; empty for a model without edits.

    None where an edit cannot say it, or where that depends on the labels of the prompts.
    """
    edits = model.edits if isinstance(model, Edited) else ()
    return tuple(None if edit.at else edit.key for edit in edits)


def _key(model: Model, prompts: Prompts) -> Hashable:
    """All that changes the numbers of a run; None where an edit cannot say what it does."""
    edits = model.edits if isinstance(model, Edited) else ()
    if any(edit.key is None for edit in edits):
        return None
    what = tuple((edit.key, _place(edit, prompts)) for edit in edits)
    bridge = intact(model)
    return (id(bridge), weights_version(bridge), what, id(prompts.tokens))


def _place(edit: Edit, prompts: Prompts) -> Hashable:
    """Where an edit is made in these prompts: equal tokens may carry different labels."""
    return None if edit.at is None else repr(prompts.at(edit.at).tolist())


def _forward(model: Model, prompts: Prompts, names: Sequence[str]) -> Cache:
    bridge = intact(model)
    edits = model.edits if isinstance(model, Edited) else ()
    _check_names(bridge, [*names, *(edit.hook for edit in edits)])
    fired: set[int] = set()
    kept: dict[str, Tensor] = {}
    hooks: list[tuple[str, Callable[..., Tensor | None]]]
    hooks = [(edit.hook, _edit_hook(edit, prompts, fired)) for edit in edits]
    hooks += [(name, _keep_hook(name, kept)) for name in names]
    with torch.no_grad():
        logits: Tensor = bridge.run_with_hooks(prompts.tokens, fwd_hooks=hooks)
    silent = [edit.what for edit in edits if id(edit) not in fired]
    silent += [name for name in names if name not in kept]
    if silent:
        raise NotMeasured(f"a hook did not fire: {', '.join(silent)}; nothing was changed there")
    inside = torch.arange(prompts.tokens.shape[1], device=logits.device) < prompts.lengths[:, None]
    if not bool(torch.isfinite(logits[inside]).all()):
        raise NotMeasured("the model's logits are not finite; check its weights and dtype")
    return Cache(logits, kept)


def _check_names(bridge: Bridge, names: Sequence[str]) -> None:
    known = hook_names(bridge)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            raise NotMeasured(f"the model has no hook {name!r}; near names: {', '.join(near)}")


def _apply(edit: Edit, value: Tensor, prompts: Prompts) -> Tensor:
    if edit.at is None:
        return edit.apply(value)
    rows = torch.arange(len(prompts), device=value.device)[:, None]
    index = prompts.at(edit.at)
    changed = value.clone()
    changed[rows, index] = edit.apply(value[rows, index])
    return changed


def _edit_hook(edit: Edit, prompts: Prompts, fired: set[int]) -> Callable[..., Tensor]:
    def hook(value: Tensor, hook: object) -> Tensor:
        new = _apply(edit, value, prompts)
        if new.shape != value.shape:
            raise NotMeasured(
                f"{edit.what}: expected shape {tuple(value.shape)}, got {tuple(new.shape)}"
            )
        if not edit.noop and torch.equal(new, value):
            raise NotMeasured(
                f"{edit.what} changed nothing: the activation already was that; "
                "declare it with noop=True if that is meant"
            )
        fired.add(id(edit))
        return new

    return hook


def _keep_hook(name: str, kept: dict[str, Tensor]) -> Callable[..., None]:
    def hook(value: Tensor, hook: object) -> None:
        kept[name] = value.detach()

    return hook
