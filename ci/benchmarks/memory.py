"""Peak memory of one row: our sweep alone, in a process that holds nothing but its model.

python -m claimlens.ci.benchmarks.memory ROW DEVICE
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types
import torch

from claimlens.ci.benchmarks.catalogue import build_of
from claimlens.ci.benchmarks.rows import read_rows
from claimlens.ci.benchmarks.subject import make

ROOT = Path(__file__).resolve().parents[2]
PAUSE = 0.005
"""Between two looks at the memory [s]."""


def peak_of(row: str, device: str) -> float:
    """The largest resident memory during our sweep, model included [MB]; on a GPU, of the GPU."""
    command = [sys.executable, "-m", "claimlens.ci.benchmarks.memory", row, device]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".dev")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the peak memory of {row} was not measured:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def resident(step: Callable[[], object]) -> float:
    """The largest resident memory of this process while a step runs [MB], looked at by a thread."""
    process, done = psutil.Process(), threading.Event()
    seen: list[int] = [process.memory_info().rss]

    def look() -> None:
        while not done.wait(PAUSE):
            seen.append(process.memory_info().rss)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        step()
    finally:
        done.set()
        thread.join()
    return max(seen) / 1e6


def on_gpu(step: Callable[[], object], device: str) -> float:
    """The largest memory that tensors took on the GPU while a step ran [MB]."""
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) / 1e6


def main() -> None:
    """Command line: prints the peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row")
    parser.add_argument("device")
    given = parser.parse_args()
    sweep = build_of(given.row)(make(read_rows()[given.row].size, given.device))
    gc.collect()
    cuda = given.device.startswith("cuda")
    print(on_gpu(sweep.ours, given.device) if cuda else resident(sweep.ours))


if __name__ == "__main__":
    main()
