"""From a row to its result: the numbers compared, the rounds interleaved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from claimlens.ci.benchmarks.memory import peak_of
from claimlens.ci.benchmarks.plain_forwards import forward
from claimlens.ci.benchmarks.result import PeerTimes, Result
from claimlens.ci.benchmarks.rows import Row
from claimlens.ci.benchmarks.subject import Size, Subject
from claimlens.ci.benchmarks.sweep import Build, Disagreement, check_agreement
from claimlens.ci.benchmarks.timing import (
    Clock,
    Repeat,
    Step,
    in_turn,
    interleaved,
    product,
    with_operations,
)
from claimlens.circuits.engine.policy import Policy, using

Measure = Callable[[str, Build], None]
"""What a benchmark is given: measures a row and keeps its result."""
MeasureAt = Callable[[Row, Build, Size], Result]
"""The same at any size, without a figure that must be reached."""
FLOOR = "Hugging Face"
QUICK_ROUNDS = 2


def quicker(row: Row) -> Row:
    """The row with fewer rounds."""
    return replace(row, rounds=QUICK_ROUNDS)


def measure(row: Row, build: Build, subject: Subject, repeat: Repeat = in_turn) -> Result:
    """Compare the numbers of a row with those of its peers, then take the times.

    Without the peak memory. Raises Disagreement.
    """
    sweep, device = build(subject), subject.clean.tokens.device
    peers = sweep.peers()
    cells = sweep.sample(row.sample)
    started = sweep.started(subject)
    with using(Policy()) as policy:
        ours, flops = with_operations(started)
    if len(ours) != sweep.cells:
        raise Disagreement(f"{row.name}: {len(ours)} cells of {sweep.cells}")
    gaps: dict[str, float | None] = {
        name: check_agreement(f"{row.name}: {name}", ours[cells], peer(cells))
        for name, peer in peers.items()
    }
    steps: dict[str, Step] = {"ours": started, "product": product(device)}
    steps |= {name: partial(peer, cells) for name, peer in peers.items()}
    steps[FLOOR] = partial(forward, subject, sweep.prompts)
    subject.raw()  # made when it is first asked for: not in a round
    with torch.no_grad():
        times = interleaved(steps, Clock(device), row.rounds, repeat)
    counted = {**{name: len(cells) for name in gaps}, FLOOR: 1}
    return Result(
        row=row,
        cells=sweep.cells,
        clock="wall" if device.type == "cuda" else "cpu",
        ways=policy.ways,
        ours=times["ours"],
        peers={n: PeerTimes(times[n], k, gaps.get(n)) for n, k in counted.items()},
        product=times["product"],
        flops=flops,
        peak_mb=None,
    )


def with_peak(result: Result, device: str) -> Result:
    """The result with the peak memory, measured in a process of its own."""
    return replace(result, peak_mb=peak_of(result.row.name, device))
