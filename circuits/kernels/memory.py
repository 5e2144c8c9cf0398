"""Finished forward passes, kept while they can be of use again, within a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.kernels.resume import Calls

T = TypeVar("T")
MAX_BYTES = 2**29
MAX_LOGITS = 2**24
"""Logits held at a time where all of them are gone through: 64 MiB in float32, a few times over."""


@runtime_checkable
class Kept(Protocol):
    """What is made of tensors, and can say which."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is kept."""
        ...


@dataclass(frozen=True, eq=False)
class Cache:
    """One forward pass: its last normalised residual stream, and named activations.

    Logits are read out of the stream where they are asked for, and never kept: with a large
    vocabulary they would take most of the memory and a third of the time. `calls` are there where
    other runs can start in the middle of this one.
    """

    final: Float[Tensor, "batch pos d_model"]
    activations: Mapping[str, Tensor]
    read_out: Callable[[Tensor], Tensor]
    calls: Calls | None = None

    def __getitem__(self, name: str) -> Tensor:
        return self.activations[name]

    @property
    def logits(self) -> Float[Tensor, "batch pos d_vocab"]:
        """The logits of every position; of many prompts at once, rather use the others."""
        return self.read_out(self.final)

    def logits_at(self, index: Int[Tensor, "batch slot"]) -> Float[Tensor, "batch slot d_vocab"]:
        """The logits after these positions of each prompt."""
        rows = torch.arange(len(index), device=self.final.device)[:, None]
        return self.read_out(self.final[rows, index])

    def by_rows(
        self, index: Int[Tensor, "batch slot"], d_vocab: int
    ) -> Iterator[tuple[slice, Float[Tensor, "row slot d_vocab"]]]:
        """`logits_at`, some prompts at a time: as many as keep MAX_LOGITS."""
        size = max(1, MAX_LOGITS // max(1, index.shape[1] * d_vocab))
        for start in range(0, len(index), size):
            rows = slice(start, start + size)
            part = torch.arange(len(index), device=self.final.device)[rows, None]
            yield rows, self.read_out(self.final[part, index[rows]])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is kept."""
        streams = self.calls.streams if self.calls else ()
        return (self.final, *self.activations.values(), *streams)


@dataclass
class Shelf(Generic[T]):
    """Runs or tensors by everything that changes their numbers; the longest unused ones go first.

    Keys hold object identities, so each entry holds the objects that its key speaks of.
    """

    max_bytes: int
    _kept: OrderedDict[Hashable, tuple[T, Any]] = field(default_factory=OrderedDict)

    def find(self, key: Hashable) -> T | None:
        """What is kept under this key, if it is still here."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def keep(self, key: Hashable, what: T, held: Any) -> None:
        """Keep it, and let older ones go where the bound is passed."""
        self._kept[key] = (what, held)
        self._kept.move_to_end(key)
        while self._kept and self.bytes > self.max_bytes:
            self._kept.popitem(last=False)

    def drop(self, key: Hashable) -> None:
        """Let go of what is kept under this key, if anything is."""
        self._kept.pop(key, None)

    def clear(self) -> None:
        """Let everything go."""
        self._kept.clear()

    @property
    def bytes(self) -> int:
        """Memory that is taken here."""
        return sum(_bytes(what) for what, _ in self._kept.values())


class Memory(Shelf[Cache]):
    """Finished runs; and, on shelves of their own, tensors made from runs, and the engine's runs.

    The tensors are small and dear: a large run must not drive them out. `resumable` says of which
    models a run can start inside another (by their id).
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(max_bytes)
        self.values: Shelf[Tensor] = Shelf(max_bytes // 4)
        self.runs: Shelf[Kept] = Shelf(max_bytes)
        self.resumable: dict[int, bool] = {}
        self._passing: set[Hashable] = set()

    def keep_for_now(self, key: Hashable, run: Cache, held: Any) -> None:
        """Keep a run until the next `settle`."""
        self.keep(key, run, held)
        self._passing.add(key)

    def settle(self) -> None:
        """Let go of what was kept for now: a claim's edited runs are of no use to the next one."""
        for key in self._passing:
            self.drop(key)
        self._passing.clear()

    def clear(self) -> None:
        """Let every run and every value go."""
        super().clear()
        self.values.clear()
        self.runs.clear()
        self.resumable.clear()


def _bytes(what: object) -> int:
    tensors = (
        (what,) if isinstance(what, Tensor) else what.tensors if isinstance(what, Kept) else ()
    )
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


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
    known = memory.values.find(key)
    if known is None:
        known = compute()
        memory.values.keep(key, known, held)
    return known


def current() -> Memory | None:
    """The memory in force, if any."""
    return _CURRENT.get()
