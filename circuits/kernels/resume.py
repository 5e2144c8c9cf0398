"""Start a run at the first layer that its edits can change, from the intact run's stream.

What comes before that layer is the same in both. Each block is called as the model called it in
the intact run (with its masks and rotary angles), so that the numbers are those of a whole run, to
the bit; a model of which that is not so is always run whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from claimlens.circuits.kernels.bridge import Bridge
from claimlens.circuits.kernels.read_out import FINAL

_BLOCK = re.compile(r"blocks\.(\d+)\.")
_BEHIND_BLOCKS = ("ln_final.", "unembed.")
_Hook = tuple[str, Callable[..., Tensor | None]]


class AllRead(Exception):
    """Raised inside a forward pass when it has come to the unembedding: the rest is not needed."""


@dataclass(frozen=True, eq=False)
class Calls:
    """How each block was called in an intact run: with which stream, and with what else."""

    streams: list[Tensor] = field(default_factory=list)
    others: list[tuple[tuple[Any, ...], Mapping[str, Any]]] = field(default_factory=list)

    def note(self, block: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A hook before a block, which keeps its call."""
        self.streams.append(args[0])
        self.others.append((args[1:], dict(kwargs)))


def first_layer(hooks: Iterable[str], layers: int) -> int:
    """The layer in which the first of these hooks lies, of `layers`; -1 for one before them all."""
    return min((_layer(hook, layers) for hook in hooks), default=-1)


def last_layer(hooks: Iterable[str], layers: int) -> int:
    """The layer in which the last of these hooks lies; `layers` for one behind them all."""
    return max((_layer(hook, layers) for hook in hooks), default=-1)


def run_whole(bridge: Bridge, tokens: Tensor, hooks: Sequence[_Hook]) -> Calls:
    """Run the model with hooks as far as they let it; how its blocks were called."""
    with _noting(bridge) as calls, suppress(AllRead):
        bridge.run_with_hooks(tokens, fwd_hooks=list(hooks))
    return calls


def run_from(bridge: Bridge, calls: Calls, layer: int, hooks: Sequence[_Hook]) -> None:
    """The same from a layer on."""
    model = _parts(bridge)
    layer = min(layer, len(model.blocks) - 1)  # what lies behind the last begins with its output
    with model.hooks(fwd_hooks=list(hooks)), suppress(AllRead):
        model.unembed(model.ln_final(_stream(model, calls, layer, len(model.blocks))))


def run_between(
    bridge: Bridge, calls: Calls, layer: int, until: int, hooks: Sequence[_Hook]
) -> None:
    """The blocks from a layer on, before layer `until`."""
    model = _parts(bridge)
    with model.hooks(fwd_hooks=list(hooks)):
        _stream(model, calls, layer, until)


def resumes_exactly(bridge: Bridge, calls: Calls, final: Tensor) -> bool:
    """Whether the last block, called again, leads to the same stream before the unembedding."""
    if not calls.streams or len(calls.streams) != len(_parts(bridge).blocks):
        return False
    again: list[Tensor] = []
    with torch.no_grad():
        run_from(bridge, calls, len(calls.streams) - 1, [(FINAL, lambda x, hook: again.append(x))])
    return bool(again) and torch.equal(again[0], final)


@contextmanager
def _noting(bridge: Bridge) -> Iterator[Calls]:
    calls = Calls()
    handles = [
        block.register_forward_pre_hook(calls.note, with_kwargs=True)
        for block in getattr(_parts(bridge), "blocks", ())
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _stream(model: Any, calls: Calls, layer: int, until: int) -> Tensor:
    """The residual stream before layer `until`, from that before `layer`."""
    stream = calls.streams[layer]
    for block, (args, kwargs) in list(zip(model.blocks, calls.others, strict=True))[layer:until]:
        out = block(stream, *args, **kwargs)
        stream = out[0] if isinstance(out, tuple) else out
    return stream


def _layer(hook: str, layers: int) -> int:
    if found := _BLOCK.match(hook):
        return int(found[1])
    return layers if hook.startswith(_BEHIND_BLOCKS) else -1


def _parts(bridge: Bridge) -> Any:
    """The bridge with the parts that its protocol does not list."""
    return bridge
