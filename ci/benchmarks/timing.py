"""Time, taken turn by turn, and the machine's matrix product beside it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from claimlens.circuits.engine.linear import Linear, fuses

ROWS, INNER, COLUMNS = 2048, 3072, 768
PRODUCT_FLOPS = 2 * ROWS * INNER * COLUMNS
"""Of the product that a peak is measured by: an MLP's second matrix, with many tokens."""

Step = Callable[[], object]
Repeat = Callable[[Step, Step, int], None]
"""`repeat(target, before, rounds)`: runs `before`, then `target`, so many times."""


@dataclass(frozen=True)
class Times:
    """What each round took [ms], by two clocks; processor time is that of all threads."""

    cpu: list[float]
    wall: list[float]


@dataclass(frozen=True)
class Spread:
    """A ratio of medians, and the lowest and highest ratio of a single round."""

    middle: float
    low: float
    high: float


class Clock:
    """Takes the time of one call; on a GPU it waits until the work is done."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, step: Step) -> tuple[float, float]:
        """Processor time and wall time of a call [ms]."""
        self._wait()
        cpu, wall = time.process_time(), time.perf_counter()
        step()
        self._wait()
        return 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def interleaved(
    steps: Mapping[str, Step], clock: Clock, rounds: int, repeat: Repeat
) -> dict[str, Times]:
    """Every step once per round, the first one last: a slow spell of the machine meets them all."""
    first, *others = steps
    found = {name: Times([], []) for name in steps}

    def take(name: str) -> None:
        cpu, wall = clock(steps[name])
        found[name].cpu.append(cpu)
        found[name].wall.append(wall)

    def before() -> None:
        for name in others:
            take(name)

    repeat(lambda: take(first), before, rounds)
    return found


def in_turn(target: Step, before: Step, rounds: int) -> None:
    """The plain `Repeat`."""
    for _ in range(rounds):
        before()
        target()


def ratio(slow: list[float], fast: list[float]) -> Spread:
    """How many times faster the second is than the first."""
    each = [a / b for a, b in zip(slow, fast, strict=True)]
    return Spread(median(slow) / median(fast), min(each), max(each))


def product(device: torch.device) -> Step:
    """A float32 matrix product whose speed is taken for the machine's peak: by the library that the
    engine takes for products of this size."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(ROWS, INNER, generator=generator).to(device)
    right = Linear(torch.randn(INNER, COLUMNS, generator=generator).to(device), None)
    return lambda: right(left)


def with_operations(step: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """What a call gives, and the floating point operations of its matrix products."""
    counted: dict[Any, Any] = {torch.ops.mkldnn._linear_pointwise: _of_fused} if fuses() else {}
    with FlopCounterMode(display=False, custom_mapping=counted) as counter:
        found = step()
    return found, counter.get_total_flops()


def _of_fused(x: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    return 2 * math.prod(x) * weight[0]
