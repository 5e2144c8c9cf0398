"""Finished forward passes, kept while they can be of use again, within a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

MAX_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class Cache:
    """Logits and named activations of one forward pass."""

    logits: Float[Tensor, "batch pos d_vocab"]
    activations: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.activations[name]

    @property
    def bytes(self) -> int:
        """Memory that these tensors take."""
        tensors = (self.logits, *self.activations.values())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass
class Memory:
    """Runs by everything that changes their numbers; the longest unused ones go first.

    Keys hold object identities, so each entry holds the objects that its key speaks of.
    """

    max_bytes: int = MAX_BYTES
    _runs: OrderedDict[Hashable, tuple[Cache, Any]] = field(default_factory=OrderedDict)

    def find(self, key: Hashable) -> Cache | None:
        """The run of this key, if it is still here."""
        if key not in self._runs:
            return None
        self._runs.move_to_end(key)
        return self._runs[key][0]

    def keep(self, key: Hashable, run: Cache, held: Any) -> None:
        """Keep a run, and let older ones go where the bound is passed."""
        self._runs[key] = (run, held)
        self._runs.move_to_end(key)
        while self._runs and self.bytes > self.max_bytes:
            self._runs.popitem(last=False)

    def clear(self) -> None:
        """Let every run go."""
        self._runs.clear()

    @property
    def bytes(self) -> int:
        """Memory that the kept runs take."""
        return sum(run.bytes for run, _ in self._runs.values())


_CURRENT: ContextVar[Memory | None] = ContextVar("claimlens_memory", default=None)


@contextmanager
def remembering(memory: Memory) -> Iterator[None]:
    """Within this block, runs are looked up in `memory` first, and kept there."""
    token = _CURRENT.set(memory)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def recalled(key: Hashable, held: Any, compute: Callable[[], Tensor]) -> Tensor:
    """A tensor that is no forward pass, computed once where a memory is in force.

    As in `Memory`, the key says everything that changes the numbers, and `held` keeps alive the
    objects whose identities it holds.
    """
    memory = current()
    if memory is None:
        return compute()
    known = memory.find(key)
    if known is None:
        known = Cache(torch.empty(0, 0, 0), {"value": compute()})
        memory.keep(key, known, held)
    return known["value"]


def current() -> Memory | None:
    """The memory in force, if any."""
    return _CURRENT.get()
