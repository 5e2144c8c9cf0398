"""Run the whole suite of claims on models, in a process of its own, and read what it stored."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from claimlens.ci.run_files import read_run
from claimlens.circuits.record import ClaimRecord

ROOT = Path(__file__).parents[2]
TIMEOUT = 3600


def run_suite(models: Sequence[str], store: Path, *extra: str) -> list[ClaimRecord]:
    """The records of `pytest claims` on these models; red claims are records too."""
    command = [sys.executable, "-m", "pytest", "claims", "-q", "-p", "no:cacheprovider"]
    command += ["--claims-store", str(store), *extra]
    for model in models:
        command += ["--claims-model", model]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    files = sorted(store.glob("*.jsonl"))
    assert len(files) == 1, f"expected one run file\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return read_run(files[0]).records


def run_suites(models: Sequence[str], store: Path, *extra: str) -> list[ClaimRecord]:
    """As `run_suite`, in two processes side by side."""
    halves = [models[::2], models[1::2]]
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(run_suite, half, store / str(i), *extra)
            for i, half in enumerate(halves)
            if half
        ]
        return [record for job in jobs for record in job.result()]
