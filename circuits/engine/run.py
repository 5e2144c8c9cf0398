"""The intact run that a sweep starts from: every activation that a change can enter by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.engine.attention import Keys, Rotary, attend, patterns
from claimlens.circuits.engine.changes import OF_HEADS, Site
from claimlens.circuits.engine.policy import Unsupported
from claimlens.circuits.engine.rows import queries_keys_values, turned
from claimlens.circuits.engine.weights import Weights, check_known, weights_of
from claimlens.circuits.kernels.bridge import Bridge, weights_version
from claimlens.circuits.kernels.cache import Edited, Model
from claimlens.circuits.kernels.memory import current
from claimlens.circuits.kernels.modules import modules
from claimlens.circuits.kernels.read_out import FINAL
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotMeasured

CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""How far our own forward pass may be from the model's, as a share of its final stream."""
CLOSE_HALF = 5e-2
_ROTARY = ("hook_cos", "hook_sin")

_PER_LAYER = ("pre", "q", "k", "v", "z", "attn_out", "mlp_out", "turned_q", "turned_k")
PerLayer = tuple[Float[Tensor, "batch pos ..."], ...]


@dataclass(frozen=True, eq=False)
class Run:
    """One forward pass without changes, layer by layer; `pre` has one entry more: what comes last.

    `q` and `k` are what the hooks show, `turned_q` and `turned_k` with rotary positions applied
    (the same objects in a model without).
    """

    model: Bridge
    version: int
    weights: Weights
    prompts: Prompts
    rotary: Rotary | None
    pre: PerLayer
    q: PerLayer
    k: PerLayer
    v: PerLayer
    z: PerLayer
    attn_out: PerLayer
    mlp_out: PerLayer
    turned_q: PerLayer
    turned_k: PerLayer

    @property
    def layers(self) -> int:
        """How many layers the model has."""
        return len(self.weights.layers)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is kept, each once."""
        every = {x.data_ptr(): x for field in _PER_LAYER for x in getattr(self, field)}
        return tuple(every.values())

    def part(self, rows: Int[Tensor, " batch"], width: int) -> Run:
        """Some of the prompts, as far as position `width`: views, where the rows are in order."""
        first, count = int(rows[0]), len(rows)
        in_order = torch.equal(rows, torch.arange(first, first + count, device=rows.device))
        index: Any = slice(first, first + count) if in_order else rows
        taken: dict[str, Any] = {
            field: tuple(x[index][:, :width] for x in getattr(self, field)) for field in _PER_LAYER
        }
        return replace(self, prompts=self.prompts.select(rows), **taken)

    def mid(self, layer: int) -> Float[Tensor, "batch pos d_model"]:
        """What the MLP of a layer reads, before its norm."""
        return self.pre[layer] if self.weights.parallel else self.pre[layer] + self.attn_out[layer]

    def behind(
        self,
        layer: int,
        start: int,
        k: Float[Tensor, "cell batch row group d_head"],
        v: Float[Tensor, "cell batch row group d_head"],
    ) -> Keys:
        """Keys and values of rows from `start` on, behind those of this run."""
        return Keys(*self.before(layer, start), k, v, self.weights.narrow)

    def before(self, layer: int, start: int) -> tuple[Tensor, Tensor]:
        """Keys and values "batch row group d_head" of the rows before `start`."""
        return self.turned_k[layer][:, :start], self.v[layer][:, :start]

    def at(self, site: Site) -> Float[Tensor, "batch pos *rest"]:
        """The activation at a site; a pattern is "batch dst src"."""
        if site.kind == "pattern":
            q, k, v = (of[site.layer][None] for of in (self.turned_q, self.turned_k, self.v))
            places = torch.arange(q.shape[2], device=q.device)
            return patterns(q, self.behind(site.layer, 0, k, v), places)[0, :, site.head]
        if site.kind == "neurons":
            layer = self.weights.layers[site.layer]
            with torch.no_grad():
                return layer.neurons(layer.ln2(self.mid(site.layer)))
        name = "pre" if site.kind == "resid_pre" else site.kind
        whole: Tensor = getattr(self, name)[site.layer]
        return whole[:, :, site.head] if site.kind in OF_HEADS else whole


def intact_run(model: Model, prompts: Prompts) -> Run:
    """The run of an unedited model, remembered where a memory is in force.

    Our own forward pass; at first it is compared with the model's, on the longest prompt. Raises
    Unsupported where the model is edited, hooked or in training mode, of an unknown architecture,
    or not what we compute, and NotMeasured where an activation is not finite.
    """
    if isinstance(model, Edited):
        if model.edits:
            raise Unsupported("other edits are in force")
        model = model.model
    _check_bare(model)
    check_known(model)
    memory = current()
    key = ("engine run", id(model), weights_version(model), id(prompts.tokens))
    known = memory.runs.find(key) if memory else None
    run = known if isinstance(known, Run) else _computed(model, prompts)
    if memory and known is None:
        memory.runs.keep(key, run, (model, prompts.tokens))
    return replace(run, prompts=prompts)


def _check_bare(model: Any) -> None:
    """Raise Unsupported for a model that does more than its weights say."""
    if hooked := [name for name, point in model.hook_dict.items() if point.fwd_hooks]:
        raise Unsupported(
            f"hooks were left on {', '.join(hooked)}; model.reset_hooks() clears them"
        )
    if any(module.training for module in modules(model)):
        raise Unsupported("the model is in training mode; model.eval() ends it")


def check_source(run: Run, source: Run) -> None:
    """Raise NotMeasured where values of `source` don't belong into `run`."""
    if source.model is not run.model or source.version != run.version:
        raise NotMeasured("the other run is of another model, or of other weights; run it anew")
    theirs, ours = source.prompts, run.prompts
    if theirs.tokens.shape != ours.tokens.shape or not torch.equal(theirs.lengths, ours.lengths):
        raise NotMeasured(
            "the two runs' prompts differ in number or length: positions don't correspond; take "
            "both from the same pairs"
        )


def check_fresh(run: Run) -> None:
    """Raise NotMeasured where the model's weights were changed since the run."""
    if weights_version(run.model) != run.version:
        raise NotMeasured("the model's weights were changed since this run; make it anew")


@dataclass(frozen=True, eq=False)
class _Proven:
    """That our forward pass with these weights is the model's: once for each version of them, and
    in a model with rotary positions for each length."""

    version: int
    width: int
    weights: Weights
    rotary: Rotary | None

    def holds(self, version: int, width: int) -> bool:
        """Whether it says anything of this version and this length."""
        return self.version == version and (self.rotary is None or self.width == width)


_PROVEN: WeakKeyDictionary[Bridge, _Proven] = WeakKeyDictionary()


def _computed(model: Bridge, prompts: Prompts) -> Run:
    version, width = weights_version(model), prompts.tokens.shape[1]
    known = _PROVEN.get(model)
    with torch.no_grad():
        if known is not None and known.holds(version, width):
            run = _forward(model, known.weights, prompts, known.rotary)
            _check_finite(run)
            return run
        weights, seen = weights_of(model), _seen(model, prompts)
        run = _forward(model, weights, prompts, seen.rotary)
        _check_finite(run)
        seen.check(run)
    _PROVEN[model] = _Proven(version, width, weights, seen.rotary)
    return run


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the model itself does with the longest prompt."""

    row: int
    final: Float[Tensor, "pos d_model"]
    rotary: Rotary | None

    def check(self, run: Run) -> None:
        """Raise Unsupported where our forward pass is not the model's."""
        length = int(run.prompts.lengths[self.row])
        ours = run.weights.final(run.pre[-1][self.row])[:length]
        theirs = self.final[:length]
        apart = float((ours - theirs).abs().max() / theirs.abs().max())
        if not apart <= CLOSE.get(ours.dtype, CLOSE_HALF):
            raise Unsupported(
                f"its forward pass differs from the model's own by {apart:.2g} of the final stream"
            )


def _seen(model: Bridge, prompts: Prompts) -> _Seen:
    row = int(prompts.lengths.argmax())
    kept: dict[str, Tensor] = {}
    turns = str(model.cfg.positional_embedding_type) == "rotary"
    names = [FINAL, *(f"blocks.0.attn.{name}" for name in _ROTARY if turns)]

    def keep(value: Any, hook: Any) -> None:
        kept[hook.name] = value

    model.run_with_hooks(prompts.tokens[row : row + 1], fwd_hooks=[(name, keep) for name in names])
    if missing := [name for name in names if name not in kept]:
        raise Unsupported(f"the hooks {', '.join(missing)} did not fire")
    cos, sin = (kept.get(f"blocks.0.attn.{name}") for name in _ROTARY)
    rotary = None if cos is None or sin is None else Rotary(cos[0], sin[0])
    return _Seen(row, kept[FINAL][0], rotary)


def _forward(model: Bridge, weights: Weights, prompts: Prompts, rotary: Rotary | None) -> Run:
    steps = list(_steps(weights, prompts.tokens, rotary))
    found = {field: tuple(step[field] for step in steps if field in step) for field in _PER_LAYER}
    return Run(model, weights_version(model), weights, prompts, rotary, **found)


def _steps(
    weights: Weights, tokens: Int[Tensor, "batch pos"], rotary: Rotary | None
) -> Iterator[dict[str, Tensor]]:
    """Every activation, layer by layer; then the stream that comes out."""
    x = weights.embedded(tokens)
    places = torch.arange(tokens.shape[1], device=tokens.device)
    for number, layer in enumerate(weights.layers):
        made = queries_keys_values(weights, number, x[None])
        turned_q, turned_k, v = turned(rotary, made, places, places)
        keys = Keys(turned_k[0, :, :0], v[0, :, :0], turned_k, v, weights.narrow)
        z = attend(turned_q, keys, places)[0]
        attn_out = layer.o(rearrange(z, "batch pos head e -> batch pos (head e)"))
        mid = x if weights.parallel else x + attn_out
        mlp_out = layer.mlp(mid)
        yield {
            "pre": x,
            "q": made[0][0],
            "k": made[1][0],
            "v": v[0],
            "z": z,
            "attn_out": attn_out,
            "mlp_out": mlp_out,
            "turned_q": turned_q[0],
            "turned_k": turned_k[0],
        }
        x = x + attn_out + mlp_out if weights.parallel else mid + mlp_out
    yield {"pre": x}


def _check_finite(run: Run) -> None:
    width = run.prompts.tokens.shape[1]
    padding = torch.arange(width, device=run.pre[0].device) >= run.prompts.lengths[:, None]
    finite = [(torch.isfinite(x) | padding[..., None]).all() for x in run.pre]
    for number, is_finite in enumerate(torch.stack(finite).tolist()):
        if not is_finite:
            where = f"before layer {number}" if number < run.layers else "after the last layer"
            raise NotMeasured(
                f"the residual stream {where} is the first that is not finite; check the weights "
                "and the dtype"
            )
