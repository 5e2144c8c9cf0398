"""Activation patching: a clean activation in the corrupted run, and how much it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from claimlens.circuits.engine.patching import Grid, patched_by_engine
from claimlens.circuits.engine.policy import either
from claimlens.circuits.engine.read import Metric
from claimlens.circuits.kernels.cache import (
    Edit,
    Edited,
    Model,
    cache,
    edit_keys,
    edited,
    intact,
)
from claimlens.circuits.metrics import MIN_GAP, logit_diff
from claimlens.circuits.parts import Position, Prompts
from claimlens.circuits.verdict import NotMeasured

_NO_POSITION_AXIS = ("hook_pattern", "hook_attn_scores")


@dataclass(frozen=True, eq=False)
class Patching:
    """What patching gave back, by prompt, layer and place.

    `effect` is the patched minus the corrupted metric, `gap` the clean minus the corrupted one
    [logits]. A place is a label, or a token index where all positions were patched in turn; `depth`
    is the number of the model's layers.
    """

    effect: Float[Tensor, "batch layer place"]
    gap: Float[Tensor, " batch"]
    layers: tuple[int, ...]
    places: tuple[str, ...]
    depth: int

    def at(self, layer: int, place: str) -> Float[Tensor, " batch"]:
        """The effect of one patch [logits]; raises ValueError for one that was not made."""
        if layer not in self.layers or place not in self.places:
            raise ValueError(
                f"no patch at layer {layer}, {place!r}; made were layers {self.layers} and "
                f"places {self.places}"
            )
        return self.effect[:, self.layers.index(layer), self.places.index(place)]

    def recovered(self, floor: float = MIN_GAP) -> Float[Tensor, "batch layer place"]:
        """The effect as a share of the mean gap: 0 changed nothing, 1 restored the clean run.

        Divided by the mean over prompts, not prompt by prompt: single gaps come near to 0. Raises
        NotMeasured where the mean gap is smaller than `floor` [logits].
        """
        return share_of_gap(self.effect, self.gap, floor)


def share_of_gap(
    effect: Float[Tensor, "batch ..."], gap: Float[Tensor, " batch"], floor: float
) -> Float[Tensor, "batch ..."]:
    """Effects over the mean gap; raises NotMeasured where that is smaller than `floor`."""
    mean = gap.mean()
    if not float(mean.abs()) >= floor:
        raise NotMeasured(
            f"clean and corrupted differ by {float(mean):.3g} logits on average, less than "
            f"{floor:g}: a share of that says nothing; report the effect itself"
        )
    return effect / mean


def patch(
    model: Model, hook: str, clean: Prompts, at: str | Position | None = None, *, noop: bool = False
) -> Edited:
    """The model with the activation at `hook` taken from its run on `clean`, prompt by prompt.

    With `at` only there: what stands at the clean prompts' label goes to that label of the prompts
    it is run on, slot by slot. Run it on the corrupted side of the same pairs. A patch that
    changes nothing is an error unless `noop` declares it. Raises NotMeasured for `hook_resid_mid`,
    which is not what the MLP reads, and for a position of a hook that has no position axis.
    """
    _check_hook(hook, at)
    value = cache(model, clean, [hook])[hook]
    if at is None:
        return _patched(model, hook, clean, lambda old: _same_shape(hook, value, old), noop=noop)
    return _at_label(model, hook, clean, value, at, noop)


def patch_residual(
    model: Model,
    clean: Prompts,
    corrupted: Prompts,
    layers: Sequence[int] | None = None,
    places: Sequence[str] | None = None,
    metric: Metric = logit_diff,
) -> Patching:
    """The residual stream before each layer, patched from clean into corrupted place by place.

    The normalised patching of the TransformerLens demo (seed 002), prompt by prompt. Layer
    `n_layers` is the stream after the last block; without `layers` all but that one, without
    `places` every token index. By the engine for `logit_diff` and `answer_loss`; else one forward
    pass per layer and place. Raises NotMeasured where the two sides differ in length, or not at
    all.
    """
    check_sides(clean, corrupted)
    depth = int(intact(model).cfg.n_layers)
    chosen = tuple(range(depth)) if layers is None else tuple(layers)
    for layer in chosen:
        resid_pre(layer, depth)  # a layer that there is not is an error before any run
    grid = Grid(clean, corrupted, chosen, None if places is None else tuple(places), depth)
    effect, gap = either(
        "patch_residual",
        lambda: patched_by_engine(model, grid, metric),
        lambda: _patched_by_hooks(model, grid, metric),
    )
    return Patching(effect, gap, chosen, grid.names, depth)


def _patched_by_hooks(
    model: Model, grid: Grid, metric: Metric
) -> tuple[Float[Tensor, "batch layer place"], Float[Tensor, " batch"]]:
    """The plain form: one run for each layer and place."""
    clean, corrupted, places = grid.clean, grid.corrupted, grid.places
    hooks = [resid_pre(layer, grid.depth) for layer in grid.layers]
    source, before = cache(model, clean, hooks), metric(model, corrupted)

    def cell(hook: str, name: str) -> Float[Tensor, " batch"]:
        """Where both runs are equal anyway, nothing changing is the result."""
        if places is None:
            one = _at_columns(model, hook, clean, source[hook], [int(name)], True)
        else:
            one = _at_label(model, hook, clean, source[hook], name, True)
        return metric(one, corrupted)

    cells = [[cell(hook, name) for name in grid.names] for hook in hooks]
    after = torch.stack([torch.stack(row, dim=1) for row in cells], dim=1)
    return after - before[:, None, None], metric(model, clean) - before


def zero_region(
    patched: Patching, clean: Prompts, corrupted: Prompts
) -> Bool[Tensor, "batch layer pos"]:
    """Where a sweep over all positions must have exactly no effect, in any causal model.

    Before the first token that differs, and in the padding after END; before layer 0 wherever the
    tokens are the same; after the last block everywhere but at END.
    """
    index = torch.arange(clean.tokens.shape[1], device=clean.tokens.device)
    end = clean.at("END")
    outside = (index < first_difference(clean, corrupted)[:, None]) | (index > end)
    rows = {0: outside | (clean.tokens == corrupted.tokens), patched.depth: index != end}
    return torch.stack([rows.get(layer, outside) for layer in patched.layers], dim=1)


def first_difference(clean: Prompts, corrupted: Prompts) -> Int[Tensor, " batch"]:
    """Index of the first token in which each pair differs; raises NotMeasured where none does."""
    check_sides(clean, corrupted)
    differs = clean.tokens != corrupted.tokens
    if not bool(differs.any(1).all()):
        raise NotMeasured("some prompt is the same on both sides: it has no first difference")
    return differs.int().argmax(1)


def resid_pre(layer: int, depth: int) -> str:
    """The hook of the residual stream before a layer; `depth` stands for after the last one."""
    if not 0 <= layer <= depth:
        raise ValueError(f"no residual stream before layer {layer}: the model has {depth} layers")
    last = layer == depth
    return f"blocks.{depth - 1}.hook_resid_post" if last else f"blocks.{layer}.hook_resid_pre"


def patch_columns(
    model: Model, hook: str, clean: Prompts, columns: Sequence[int], *, noop: bool = False
) -> Edited:
    """As `patch`, at the same token indices of every prompt."""
    _check_hook(hook, "END")
    return _at_columns(model, hook, clean, cache(model, clean, [hook])[hook], columns, noop)


def _at_columns(
    model: Model, hook: str, clean: Prompts, value: Tensor, columns: Sequence[int], noop: bool
) -> Edited:
    index = list(columns)

    def apply(old: Tensor) -> Tensor:
        _same_shape(hook, value, old)
        changed = old.clone()
        changed[:, index] = value[:, index]
        return changed

    return _patched(model, hook, clean, apply, tuple(index), noop=noop)


def _at_label(
    model: Model, hook: str, clean: Prompts, value: Tensor, at: str | Position, noop: bool
) -> Edited:
    place = Position.parse(at) if isinstance(at, str) else at
    rows, index = torch.arange(len(clean), device=value.device)[:, None], clean.at(place)
    taken = value[rows, index]

    def apply(old: Tensor) -> Tensor:
        return _same_shape(hook, taken, old)

    key = (str(place), repr(index.tolist()))
    return _patched(model, hook, clean, apply, key, place, noop=noop)


def _patched(
    model: Model,
    hook: str,
    clean: Prompts,
    apply: Callable[[Tensor], Tensor],
    what: tuple[object, ...] = (),
    place: Position | None = None,
    *,
    noop: bool,
) -> Edited:
    before = edit_keys(model)
    key = None if None in before else ("patch", hook, what, id(clean.tokens), before)
    where = "" if place is None else f" at {place}"
    edit = Edit(hook, apply, f"patching {hook}{where}", noop, key, clean.tokens, place)
    return edited(model, edit)


def _same_shape(hook: str, value: Tensor, old: Tensor) -> Tensor:
    if value.shape != old.shape:  # assigning it would spread one prompt over all
        raise NotMeasured(
            f"patching {hook}: the clean side has shape {tuple(value.shape)}, the run "
            f"{tuple(old.shape)}; take both from the same pairs"
        )
    return value


def _check_hook(hook: str, at: str | Position | None) -> None:
    if hook.endswith("hook_resid_mid"):
        raise NotMeasured(
            f"{hook} is never patched: the MLP reads another tensor, so the stream would change "
            "and its MLP not; patch hook_attn_out, or hook_resid_pre of this layer or the next"
        )
    if at is not None and hook.endswith(_NO_POSITION_AXIS):
        raise NotMeasured(f"{hook} has heads where others have positions; patch it whole")


def check_sides(clean: Prompts, corrupted: Prompts) -> None:
    """Raise NotMeasured for two sides whose positions don't correspond, or that are the same."""
    if clean.tokens.shape != corrupted.tokens.shape or not torch.equal(
        clean.lengths, corrupted.lengths
    ):
        raise NotMeasured(
            "clean and corrupted prompts differ in length: their positions do not correspond; "
            "use pairs that differ only by tokens in the same places"
        )
    if torch.equal(clean.tokens, corrupted.tokens):
        raise NotMeasured("clean and corrupted prompts are the same: there is nothing to patch")
