"""A sweep over many revisions that is killed, and gone on with."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rich.progress import track

from claimlens.ci.faults import suite
from claimlens.ci.faults.count import Count
from claimlens.ci.faults.forked import CLAIM
from claimlens.ci.run_files import read_run, run_files
from claimlens.ci.selftests.processes import OWN_PLUGINS
from claimlens.circuits.record import ClaimRecord

MISSING, OTHER, TWICE = "revisions not complete", "results that differ", "runs too many"
FAILED = "sweeps that did not end with 0"
STORE, CLAIMS = "swept", ("test_cut.py",)
PLAIN = ("--import-mode=importlib", "-c", os.devnull, "--rootdir=.")
Results = dict[str, list[ClaimRecord]]


def sweeps(folder: Path, revisions: int, kills: int, seed: int = 0) -> Count:
    """A sweep over `revisions`, killed `kills` times, beside one that nothing disturbed."""
    count = Count(
        "sweep",
        f"a revision of a sweep that is killed {kills} times, at random results, and started again "
        "each time; then compared with a sweep that nothing disturbed",
    )
    count.must_not(MISSING, OTHER, TWICE, FAILED)
    homes = [_write(folder / name, revisions) for name in ("whole", "killed")]
    whole, killed = homes
    names = _names(revisions)
    count.happened(FAILED, int(start(whole, names, STORE, CLAIMS, 2).wait() != 0))
    chance, total = random.Random(seed), revisions * suite.CLAIMS
    moments = sorted(chance.sample(range(1, total), kills))
    for moment in track(moments, "kills of the sweep"):
        _kill_at(start(killed, names, STORE, CLAIMS, 2), killed, moment)
    count.happened(FAILED, int(start(killed, names, STORE, CLAIMS, 2).wait() != 0))
    judge(count, _results(whole), _results(killed), names)
    count.happened(TWICE, max(0, len([*killed.rglob("*.jsonl")]) - revisions))
    count.tried += revisions
    count.facts["killed at"] = f"{', '.join(map(str, moments))} of {total} results"
    return count


def judge(count: Count, whole: Results, killed: Results, names: list[str]) -> None:
    """Count the revisions that lack something, and the results that are not those undisturbed."""
    for name in names:
        before, after = whole.get(name, []), killed.get(name, [])
        count.happened(MISSING, int(not len(before) == len(after) == suite.CLAIMS))
        count.happened(OTHER, sum(a != b for a, b in zip(before, after, strict=False)))


def _names(revisions: int) -> list[str]:
    return [f"./revision-{n}" for n in range(revisions)]


def _write(home: Path, revisions: int) -> Path:
    suite.write(home, suite.write_model(home.with_name(f"{home.name}-model")))
    for seed, name in enumerate(_names(revisions)):
        suite.write_model(home / name, seed)
    return home


def start(
    home: Path, models: Sequence[str], store: str, claims: Sequence[str], jobs: int = 1
) -> subprocess.Popen[bytes]:
    """The command that sweeps over models in `home`, in a session of its own."""
    listed = home / f"{store}.txt"
    listed.write_text("\n".join(models))
    given = [*PLAIN, *claims]
    sweep = ["sweep", "--models", listed.name, "--store", store, "--jobs", str(jobs), "--"]
    with (home / "sweep.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "claimlens.ci.cli", *sweep, *OWN_PLUGINS, *given],
            cwd=home,
            env=own_path(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def own_path() -> dict[str, str]:
    """The environment of a process that finds what this one finds."""
    path = os.pathsep.join(os.path.abspath(p) for p in sys.path if p)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def _kill_at(running: subprocess.Popen[bytes], home: Path, results: int) -> None:
    """Kill the sweep and all its processes when so many results are stored."""
    while running.poll() is None and _stored(home) < results:
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def _stored(home: Path) -> int:
    return sum(path.read_bytes().count(CLAIM) for path in (home / STORE).rglob("*.jsonl"))


def _results(home: Path) -> Results:
    """The results of each revision by key, without what differs from run to run."""
    found = {}
    for name in sorted(path.name for path in home.glob("revision-*")):
        (folder,) = (home / STORE).glob(f"{name}-*")
        files = run_files(folder)
        records = read_run(files[-1]).records if files else []
        timeless = [replace(record, duration_s=0.0) for record in records]
        found[f"./{name}"] = sorted(timeless, key=lambda record: record.key)
    return found
