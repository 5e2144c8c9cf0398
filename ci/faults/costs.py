"""What it costs to write results, to gate many of them, and to sweep."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from claimlens.ci.baseline import Baseline, accepted, baseline_path, environment_of
from claimlens.ci.faults.count import ROOT, Count
from claimlens.ci.faults.forked import Forked
from claimlens.ci.faults.sweeps import PLAIN, own_path, start
from claimlens.ci.keeper import Keeper
from claimlens.ci.selftests.processes import OWN_PLUGINS
from claimlens.ci.selftests.records import comparison, record
from claimlens.ci.store import RunFile
from claimlens.circuits.record import ClaimRecord, PromptsRecord, packed
from claimlens.fixtures.names import DEFAULT_DIRECTORY

SLOW, LARGE, DEAR = "gates over 3 s", "gates over 500 MB", "runs of which writing takes over 2%"
OVERHEAD, ALONE = "sweeps over 1.1 x single runs", "sweeps by two over 0.6 x by one"
PROMPTS = 128
OLD, NEW = "sha256:old", "sha256:new"


def gate_costs(folder: Path, results: int) -> Count:
    """Load, compare and gate so many results, in a process of its own."""
    count = Count("gate-costs", f"{results:,} results loaded, compared and gated")
    count.must_not(SLOW, LARGE)
    for revision in (OLD, NEW):
        _write_run(folder / revision[-3:], results, revision)
    command = [sys.executable, "-m", "claimlens.ci.faults.gating", str(folder)]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    count.happened(SLOW, int(told["seconds"] > 3))
    count.happened(LARGE, int(told["megabytes"] > 500))
    count.facts |= {
        "processor time": f"{told['seconds']:.2f} s",
        "memory of the process": f"{told['megabytes']:.0f} MB",
        "outcome": told["outcome"],
    }
    count.tried += 1
    return count


def _write_run(folder: Path, results: int, revision: str) -> None:
    """A run of many results whose values differ a little from those of another revision."""
    generator = np.random.default_rng(0 if revision == OLD else 1)
    run, records = RunFile.create(folder, {}), list[ClaimRecord]()
    ids = [f"ioi-{n}" for n in range(PROMPTS)]
    run.add_prompts(PromptsRecord("p", ids, [f"t{n % 64}" for n in range(PROMPTS)], ids))
    for number in range(results):
        values = packed(0.41 + 0.02 * generator.standard_normal(PROMPTS))
        compared = replace(comparison(), prompts="p", values=values)
        model = {"name": "default", "revision": revision, "dtype": "float32", "device": "cpu"}
        node = f"test_many.py::test[{number}]"
        records.append(
            record(claim=f"many/{number}", nodeid=node, model=model, comparisons=[compared])
        )
    _add_all(run, records)
    if revision == OLD:
        claims = {each.key: accepted(each, "2026-01-01", "first") for each in records}
        known = environment_of(records[0].model)
        path = baseline_path(folder.parent / "baselines", "default")
        Baseline("default", revision, run.path.stem, known, ["claims"], claims).save(path)


def _add_all(run: RunFile, records: Sequence[ClaimRecord]) -> None:
    """Add them without waiting for the disk after each: it is reading that is measured."""
    plain = os.fsync
    setattr(os, "fsync", lambda descriptor: None)  # noqa: B010  (mypy takes no assignment)
    try:
        for each in records:
            run.add(each)
        run.finish({"exit": 0, "claims": len(records)})
        run.close()
    finally:
        setattr(os, "fsync", plain)  # noqa: B010  (as above)


def writing_costs(folder: Path, claims: Sequence[str]) -> Count:
    """The share of a run of `claims` on `default` that writing and syncing its results takes."""
    count = Count("writing-costs", f"a run of {' '.join(claims)} on `default`, its writing timed")
    count.must_not(DEAR)
    folder.mkdir(parents=True)
    (folder / "claims").symlink_to(ROOT / "claims")
    began = time.perf_counter()
    Forked.start(folder, *claims, "--claims-model=default", first=_timed(folder / "spent")).wait()
    whole = time.perf_counter() - began
    writes = [float(line) for line in (folder / "spent").read_text().split()]
    share = sum(writes) / whole
    count.happened(DEAR, int(share > 0.02))
    count.facts |= {
        "writing": f"{1000 * sum(writes):.0f} ms in {len(writes)} writes",
        "the run": f"{whole:.1f} s",
        "share": f"{share:.2%}",
    }
    count.tried += 1
    return count


def _timed(file: Path) -> Callable[[], None]:
    """A first step of a run: note the seconds that each result takes to be kept."""

    def begin() -> None:
        keep = Keeper.keep

        def kept(keeper: Keeper, *rest: Any) -> None:
            began = time.perf_counter()
            keep(keeper, *rest)
            with file.open("a") as target:
                target.write(f"{time.perf_counter() - began}\n")

        setattr(Keeper, "keep", kept)  # noqa: B010  (mypy takes no assignment to a method)

    return begin


def sweep_costs(folder: Path, revisions: int, claims: Sequence[str]) -> Count:
    """A sweep over checkpoints of `default` beside single runs, by one process and by two."""
    count = Count(
        "sweep-costs",
        f"a sweep of {' '.join(claims)} over {revisions} checkpoints of `default` beside as many "
        "single runs (each an own command), by one process and by two",
    )
    count.must_not(OVERHEAD, ALONE)
    names = _checkpoints(folder, revisions)
    single = sum(_seconds(partial(_alone, folder, name, claims)) for name in names)
    one, two = (
        _seconds(partial(_sweep, folder, names, f"jobs-{jobs}", claims, jobs)) for jobs in (1, 2)
    )
    count.happened(OVERHEAD, int(one > 1.1 * single))
    count.happened(ALONE, int(two > 0.6 * one))
    count.facts |= {
        "single runs": f"{single:.0f} s",
        "one process": f"{one:.0f} s, {one / single:.2f} x",
        "two processes": f"{two:.0f} s, {two / one:.2f} x of that",
    }
    count.tried += 1
    return count


def _checkpoints(folder: Path, revisions: int) -> list[str]:
    """Directories with the checkpoints that the shipped model has, over and over."""
    folder.mkdir(parents=True)
    (folder / "claims").symlink_to(ROOT / "claims")
    known = sorted((DEFAULT_DIRECTORY / "checkpoints").iterdir())
    for number in range(revisions):
        target = folder / f"step-{number}"
        shutil.copytree(known[number % len(known)], target)
        shutil.copy(DEFAULT_DIRECTORY / "roles.json", target)
    return [f"./step-{number}" for number in range(revisions)]


def _alone(folder: Path, model: str, claims: Sequence[str]) -> None:
    """pytest itself, in a process of its own, on one model."""
    command = [sys.executable, "-m", "pytest", *OWN_PLUGINS, *PLAIN, *claims]
    given = (f"--claims-model={model}", f"--claims-store={folder / 'single'}")
    with (folder / "single.log").open("ab") as log:
        code = subprocess.call([*command, *given], cwd=folder, env=own_path(), stdout=log)
    if code not in (0, 1):
        raise RuntimeError(f"pytest ended with {code}; see {folder / 'single.log'}")


def _sweep(
    folder: Path, models: Sequence[str], store: str, claims: Sequence[str], jobs: int
) -> None:
    if code := start(folder, models, store, claims, jobs).wait():
        raise RuntimeError(f"a sweep ended with {code}; see {folder / 'sweep.log'}")


def _seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began
