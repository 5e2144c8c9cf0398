"""Finished forward passes, kept while they can be of use again, within a bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.kernels.resume import Calls

MAX_BYTES = 3 * 2**28
MAX_LOGITS = 2**24
"""Logits held at a time where all of them are gone through: 64 MiB in float32, a few times over."""


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
class Memory:
    """Runs by everything that changes their numbers; the longest unused ones go first.

    Keys hold object identities, so each entry holds the objects that its key speaks of.
    """

    max_bytes: int = MAX_BYTES
    resumable: dict[int, bool] = field(default_factory=dict)
    _runs: OrderedDict[Hashable, tuple[Cache | Tensor, Any]] = field(default_factory=OrderedDict)
    _passing: set[Hashable] = field(default_factory=set)

    def find(self, key: Hashable) -> Cache | Tensor | None:
        """The run (or tensor) of this key, if it is still here."""
        if key not in self._runs:
            return None
        self._runs.move_to_end(key)
        return self._runs[key][0]

    def keep(self, key: Hashable, run: Cache | Tensor, held: Any, *, passing: bool = False) -> None:
        """Keep a run, and let older ones go where the bound is passed.

        A `passing` one goes with the next `settle`.
        """
        self._runs[key] = (run, held)
        if passing:
            self._passing.add(key)
        self._runs.move_to_end(key)
        while self._runs and self.bytes > self.max_bytes:
            self._runs.popitem(last=False)

    def settle(self) -> None:
        """Let go of the passing runs: what a claim has edited is of no use to the next one."""
        for key in self._passing:
            self._runs.pop(key, None)
        self._passing.clear()

    def clear(self) -> None:
        """Let every run go."""
        self._runs.clear()
        self.resumable.clear()

    @property
    def bytes(self) -> int:
        """Memory that the kept runs take."""
        kept = (run.tensors if isinstance(run, Cache) else (run,) for run, _ in self._runs.values())
        return sum(tensor.numel() * tensor.element_size() for run in kept for tensor in run)


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
    if isinstance(known, Tensor):
        return known
    value = compute()
    memory.keep(key, value, held)
    return value


def current() -> Memory | None:
    """The memory in force, if any."""
    return _CURRENT.get()
