"""What the suite costs, on the embedded model and on a model of GPT-2 small's size.

    python -m claimlens.ci.selftests.real_size TOKENIZER FOLDER

TOKENIZER is a directory with GPT-2's own tokenizer. Random weights of GPT-2 small's shape are put
under the name `gpt2` into a hub cache in FOLDER, so that the published heads are measured, and the
figures are written where docs/coverage.md shows them.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from claimlens.ci.run_files import read_run
from claimlens.ci.selftests.coverage_page import FAMILIES
from claimlens.ci.selftests.hub_cache import put
from claimlens.circuits.record import ClaimRecord

ROOT = Path(__file__).resolve().parents[2]
REVISION = "0" * 40
SHARPER = 4.0
"""Factor on queries and keys, so that attention is not the same everywhere."""


@dataclass(frozen=True)
class Cost:
    """One run of the suite: what it took, and what it said."""

    model: str
    threads: int
    seconds: float
    cpu_seconds: float
    peak_gib: float
    records: list[ClaimRecord]

    def row(self) -> str:
        """A line of the table."""
        words = Counter(record.verdict for record in self.records)
        said = ", ".join(f"{n} {word}" for word, n in words.most_common())
        took = f"{self.seconds:.0f} s | {self.cpu_seconds:.0f} s | {self.peak_gib:.1f} GiB"
        return f"| {self.model} | {len(self.records)} | {self.threads} | {took} | {said} |"


def random_gpt2(folder: Path) -> None:
    """GPT-2 small with random weights in which no term is zero, as a Hugging Face directory."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    make: Any = GPT2LMHeadModel
    model = make(GPT2Config())
    width = model.config.n_embd
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(std=0.02)
            elif ".ln_" in name:
                weight.normal_(mean=1.0, std=0.2)
            elif name.endswith("c_attn.weight"):
                weight[:, : 2 * width].mul_(SHARPER)
    model.save_pretrained(folder)


def hub_of(tokenizer: Path, folder: Path) -> Path:
    """A hub cache with the random model under the name `gpt2`."""
    source, cache = folder / "gpt2", folder / "hub"
    for made in (source, cache):
        shutil.rmtree(made, ignore_errors=True)
    random_gpt2(source)
    for file in tokenizer.iterdir():
        shutil.copy(file, source)
    put(cache, "gpt2", source, REVISION, "main")
    return cache


def measure(model: str, store: Path, threads: int, environment: Mapping[str, str]) -> Cost:
    """Run `pytest claims` on a model in a process of its own."""
    shutil.rmtree(store, ignore_errors=True)
    command = [sys.executable, "-m", "pytest", "claims", "--claims-model", model]
    command += ["--claims-store", str(store), "-q", "-p", "no:cacheprovider"]
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), **environment}
    start = time.monotonic()
    child = subprocess.Popen(command, cwd=ROOT, env=variables)
    _, _, used = os.wait4(child.pid, 0)  # which tells what it used, as `wait` does not
    seconds = time.monotonic() - start
    (file,) = store.glob("*.jsonl")
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30
    return Cost(model, threads, seconds, _cpu(used), peak, read_run(file).records)


def page(costs: list[Cost]) -> str:
    """The section of docs/coverage.md."""
    machine = f"{os.cpu_count()} cores, torch {torch.__version__}"
    return "\n".join([_HEAD.format(machine=machine), *(cost.row() for cost in costs), ""])


def _cpu(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


_HEAD = """## What it costs

`pytest claims` on the embedded model, and on random weights of GPT-2 small's shape with GPT-2's own
tokenizer and its published heads, where no claim but identities should hold. Measured by
`python -m claimlens.ci.selftests.real_size` on {machine};
processor time is that of all threads.

| model | claims | threads | time | processor time | peak memory | verdicts |
|---|---|---|---|---|---|---|"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    folder: Path = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    hub = hub_of(given.tokenizer.resolve(), folder)
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "HF_HUB_CACHE": str(hub)}
    costs = [
        measure("default", folder / "default", 1, {}),
        measure("gpt2", folder / "random", os.cpu_count() or 1, offline),
    ]
    (FAMILIES / "real_size.md").write_text(page(costs), encoding="utf-8")
    held = [r for r in costs[1].records if r.verdict == "holds" and r.kind != "identity"]
    print(page(costs), *(f"holds on random weights: {r.claim}" for r in held), sep="\n")


if __name__ == "__main__":
    main()
