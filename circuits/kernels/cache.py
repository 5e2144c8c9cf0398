"""Run a model once, with edits, and keep named activations.

Every forward of claimlens happens here. An edited model is the model together with its edits, and
any kernel takes it in the model's place: `logit_diff(zero_ablate(model, head), prompts)`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from claimlens.circuits.kernels.bridge import Bridge, hook_names, weights_version
from claimlens.circuits.kernels.memory import Cache, current
from claimlens.circuits.kernels.read_out import FINAL, read_out
from claimlens.circuits.kernels.resume import (
    AllRead,
    Calls,
    first_layer,
    last_layer,
    resumes_exactly,
    run_between,
    run_from,
    run_whole,
)
from claimlens.circuits.parts import Position, Prompts
from claimlens.circuits.verdict import NotMeasured

_BEHIND = ("unembed.hook_out", "hook_logits", "hook_unembed")


@dataclass(frozen=True, eq=False)
class Edit:
    """A change of one activation: at the named hook, `apply` maps the old value to the new one.

    An edit that leaves the activation as it was is an error unless `noop` declares it. `key` says
    what the edit does by everything that changes its numbers (objects by identity, which `holds`
    keeps alive), so that equal edits can share a run; None where that cannot be said. With `at`,
    `apply` sees and changes only that labelled position of the prompts it is run on. `lengths` are
    those of the prompts that new values come from, position by position.
    """

    hook: str
    apply: Callable[[Tensor], Tensor]
    what: str
    noop: bool = False
    key: Hashable = None
    holds: object = None
    at: Position | None = None
    lengths: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Edited:
    """A model together with edits of its forward pass."""

    model: Bridge
    edits: tuple[Edit, ...]


Model = Bridge | Edited


@dataclass(frozen=True, eq=False)
class Hooks:
    """Edits, and activations to keep, as the hooks of one run; afterwards, what became of them."""

    edits: Sequence[Edit]
    names: Sequence[str]
    prompts: Prompts | None = None
    graph: bool = False
    kept: dict[str, Tensor] = field(default_factory=dict)
    fired: set[int] = field(default_factory=set)

    def check_names(self, known: Collection[str]) -> None:
        """Raise NotMeasured for a hook that is not among those of the model."""
        for name in (*self.names, *(edit.hook for edit in self.edits)):
            if name not in known:
                near = difflib.get_close_matches(name, known, 3)
                raise NotMeasured(f"the model has no hook {name!r}; near names: {', '.join(near)}")
            if name in _BEHIND:
                raise NotMeasured(
                    f"{name} lies behind the unembedding, where a run stops: change the logits "
                    f"that are read out of it, or edit {FINAL}"
                )

    def pairs(self) -> list[tuple[str, Callable[..., Tensor | None]]]:
        """Names and functions, edits first: what is kept is what the edits left."""
        edits = [(edit.hook, _edit_hook(edit, self.prompts, self.fired)) for edit in self.edits]
        return [*edits, *((name, _keep_hook(name, self.kept, self.graph)) for name in self.names)]

    def check_fired(self) -> None:
        """Raise NotMeasured where a hook was never reached."""
        silent = [edit.what for edit in self.edits if id(edit) not in self.fired]
        silent += [name for name in self.names if name not in self.kept]
        if silent:
            raise NotMeasured(
                f"a hook did not fire: {', '.join(silent)}; nothing was changed there"
            )


def edited(model: Model, *edits: Edit) -> Edited:
    """The model with these edits after any it already has."""
    if isinstance(model, Edited):
        return Edited(model.model, model.edits + edits)
    return Edited(model, edits)


def intact(model: Model) -> Bridge:
    """The model itself, without edits: for its weights."""
    return model.model if isinstance(model, Edited) else model


def cache(model: Model, prompts: Prompts, names: Sequence[str] = ()) -> Cache:
    """Run `prompts` and return the run with the activations of the named hooks.

    Raises NotMeasured for a hook that the model lacks or that did not fire, where an edit changed
    nothing, and where the stream that the logits are read out of is not finite.
    """
    memory, key = current(), _key(model, prompts)
    if memory is None or key is None:
        return _run(model, prompts, names)
    known = memory.find(key)
    missing = [n for n in names if known is None or n not in known.activations]
    if known is None or missing:
        known = _more(model, prompts, missing, known) if known else _run(model, prompts, missing)
        keep = memory.keep_for_now if isinstance(model, Edited) else memory.keep
        keep(key, known, (model, prompts))
    return known


def differentiable(model: Model, prompts: Prompts, names: Sequence[str]) -> Cache:
    """As `cache`, never remembered, with the graph from the named activations to the logits.

    Raises NotMeasured where an activation is not part of any graph (frozen weights).
    """
    run = _whole(model, prompts, names, graph=True)
    if cut := [name for name in names if not run[name].requires_grad]:
        raise NotMeasured(f"no gradient reaches {', '.join(cut)}: unfreeze the model's weights")
    return run


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


def _run(model: Model, prompts: Prompts, names: Sequence[str]) -> Cache:
    """A run from the first layer that its edits change, where the intact run is remembered."""
    bridge, memory = intact(model), current()
    layers = int(bridge.cfg.n_layers)
    layer = first_layer((e.hook for e in model.edits), layers) if isinstance(model, Edited) else -1
    found = memory.find(_key(bridge, prompts)) if memory and layer > 0 else None
    if found is None or found.calls is None:
        return _whole(model, prompts, names)
    same = [name for name in names if first_layer([name], layers) < layer]
    base = cache(bridge, prompts, same)
    hooks = _hooks(model, prompts, [*(name for name in names if name not in same), FINAL])
    with torch.no_grad():
        run_from(bridge, found.calls, layer, [*hooks.pairs(), (FINAL, _stop)])
    run = _finished(bridge, prompts, hooks)
    return replace(run, activations={**{name: base[name] for name in same}, **run.activations})


def _more(model: Model, prompts: Prompts, names: Sequence[str], known: Cache) -> Cache:
    """A known run with more activations: of the intact model, from their own layers alone."""
    layers = int(intact(model).cfg.n_layers)
    first, last = first_layer(names, layers), last_layer(names, layers)
    if known.calls is None or first < 0:
        read = _run(model, prompts, names).activations
    else:
        hooks = _hooks(model, prompts, names)
        with torch.no_grad():
            if last < layers:
                run_between(intact(model), known.calls, first, last + 1, hooks.pairs())
            else:
                run_from(intact(model), known.calls, first, [*hooks.pairs(), (FINAL, _stop)])
        hooks.check_fired()
        read = hooks.kept
    return replace(known, activations={**known.activations, **read})


def _whole(model: Model, prompts: Prompts, names: Sequence[str], graph: bool = False) -> Cache:
    """A run through all layers."""
    bridge, hooks = intact(model), _hooks(model, prompts, [*names, FINAL], graph)
    with torch.set_grad_enabled(graph):
        calls = run_whole(bridge, prompts.tokens, [*hooks.pairs(), (FINAL, _stop)])
    run = _finished(bridge, prompts, hooks)
    keep = not isinstance(model, Edited) and _resumable(bridge, calls, run.final)
    return replace(run, calls=calls) if keep else run


def _hooks(model: Model, prompts: Prompts, names: Sequence[str], graph: bool = False) -> Hooks:
    edits = model.edits if isinstance(model, Edited) else ()
    hooks = Hooks(edits, names, prompts, graph)
    hooks.check_names(hook_names(intact(model)))
    for edit in edits:
        _check_lengths(edit, prompts)
    return hooks


def _finished(bridge: Bridge, prompts: Prompts, hooks: Hooks) -> Cache:
    hooks.check_fired()
    kept = dict(hooks.kept)
    final = kept[FINAL] if FINAL in hooks.names[:-1] else kept.pop(FINAL)
    inside = torch.arange(prompts.tokens.shape[1], device=final.device) < prompts.lengths[:, None]
    if not bool(torch.isfinite(final[inside]).all()):
        raise NotMeasured("the model's logits are not finite; check its weights and dtype")
    return Cache(final, kept, partial(read_out, bridge))


def _resumable(bridge: Bridge, calls: Calls, final: Tensor) -> bool:
    """Whether runs can start inside this one; found out once for each model."""
    memory = current()
    if memory is None:
        return False
    if id(bridge) not in memory.resumable:
        memory.resumable[id(bridge)] = resumes_exactly(bridge, calls, final)
    return memory.resumable[id(bridge)]


def _stop(value: Tensor, hook: object) -> Tensor:
    raise AllRead


def _check_lengths(edit: Edit, prompts: Prompts) -> None:
    """Raise NotMeasured where a row's values come from a prompt of another length."""
    theirs, ours = edit.lengths, prompts.lengths
    if theirs is None or theirs.shape != ours.shape or torch.equal(theirs, ours):
        return  # another number of prompts is what `apply` refuses
    row = int((theirs != ours).nonzero()[0, 0])
    raise NotMeasured(
        f"{edit.what}: row {row} of the source is {int(theirs[row])} tokens long, here it is "
        f"{int(ours[row])}: positions don't correspond; take both from the same pairs"
    )


def _apply(edit: Edit, value: Tensor, prompts: Prompts | None) -> Tensor:
    if edit.at is None:
        return edit.apply(value)
    if prompts is None:
        raise NotMeasured(f"{edit.what}: a labelled position needs prompts; leave `at` out")
    rows = torch.arange(len(prompts), device=value.device)[:, None]
    index = prompts.at(edit.at)
    changed = value.clone()
    changed[rows, index] = edit.apply(value[rows, index])
    return changed


def _edit_hook(edit: Edit, prompts: Prompts | None, fired: set[int]) -> Callable[..., Tensor]:
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


def _keep_hook(name: str, kept: dict[str, Tensor], graph: bool) -> Callable[..., Tensor | None]:
    def hook(value: Tensor, hook: object) -> Tensor | None:
        kept[name] = value if graph else value.detach()
        return value if graph else None  # else the model goes on with another view of it

    return hook
