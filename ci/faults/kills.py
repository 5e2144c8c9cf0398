"""Runs that are killed at random moments, and gone on with."""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from rich.progress import track

from claimlens.ci.faults import suite
from claimlens.ci.faults.count import Count
from claimlens.ci.faults.forked import STORE, Forked
from claimlens.ci.run_files import StoredRun

WHAT = (
    "a run killed at a random moment, by SIGKILL, SIGTERM and SIGINT in turn, one in four with "
    "`-n 2`, then gone on with"
)
XDIST = ("-n2", "--dist=load")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LOST, TWICE, OTHER = "finished results lost", "measured twice", "other verdicts after resuming"
UNFINISHED = "runs that could not be gone on with"
CLAIMS_MORE = 3
"""So many claims' time goes by after a random number of results, at most."""
TOLD = re.compile(r"test_(\d)\[[^\]]*\] (?:HOLDS|REFUTED)|(?:HOLDS|REFUTED) test_cut.py::test_(\d)")
ENDED = (0, 1)
"""Exit codes of a run that had come to its end before it was killed."""
XDIST_SO, RESUMED_SO = 4, 5
"""One in so many runs under xdist; of those, one in so many is gone on with under xdist."""


def kills(folder: Path, times: int, seed: int = 0) -> Count:
    """Kill `times` runs, some of them under xdist, and go on with each."""
    count = Count("kills", WHAT)
    count.must_not(LOST, TWICE, OTHER, UNFINISHED)
    chance, landed = random.Random(seed), Counter[int]()
    model = suite.write_model(folder / "model")
    whole, pace = _undisturbed(suite.write(folder / "whole", model))
    for number in track(range(times), "kills"):
        place = suite.write(folder / f"kill-{number}", model)
        under = XDIST if number % XDIST_SO == XDIST_SO - 1 else ()
        later = under if number // XDIST_SO % RESUMED_SO == 0 else ()
        told = _cut(place, under, SIGNALS[number % 3], chance, pace)
        before = suite.run_of(place)
        resume = ("--claims-resume=latest",) if before else ()
        Forked.start(place, suite.MODEL, *later, *resume).wait()
        judge(count, before, suite.run_of(place), whole, told)
        landed[len(before.records) if before else 0] += 1
        shutil.rmtree(place)
        count.tried += 1
    shares = (f"{done} of {suite.CLAIMS} in {landed[done]}" for done in sorted(landed))
    count.facts["claims finished when killed"] = ", ".join(shares)
    return count


def _undisturbed(folder: Path) -> tuple[dict[str, str], float]:
    """The verdict of each claim, and the seconds that one takes."""
    Forked.start(folder, suite.MODEL).wait()
    run = suite.run_of(folder)
    if run is None or run.end is None:
        raise RuntimeError(f"the run in {folder} did not come to its end")
    return suite.verdicts(run.records), sum(r.duration_s for r in run.records) / suite.CLAIMS


def _cut(
    folder: Path,
    options: tuple[str, ...],
    how: signal.Signals,
    chance: random.Random,
    pace: float,
) -> set[str]:
    """Begin a run, and kill it after a random number of results and a little more.

    The claims that it has told of: those must be stored. A run that ended before it could be killed
    is begun anew.
    """
    while True:
        running = Forked.start(folder, suite.MODEL, "-v", *options)
        running.wait_for(chance.randint(0, suite.CLAIMS - 1))
        time.sleep(chance.uniform(0, CLAIMS_MORE * pace))
        running.kill(how)
        running.wait()
        run = suite.run_of(folder)
        if run is None or run.end is None or run.end["exit"] not in ENDED:
            return {f"cut/number-{a or b}" for a, b in TOLD.findall(running.output)}
        shutil.rmtree(folder / STORE)


def judge(
    count: Count,
    before: StoredRun | None,
    after: StoredRun | None,
    whole: dict[str, str],
    told: Collection[str] = (),
) -> None:
    """Count what must not have happened to a run that was killed and gone on with.

    `told` are the claims whose verdict it had printed when it was killed.
    """
    stored = {record.key for record in before.records} if before else set()
    count.happened(LOST, len(set(told) - stored))
    if after is None or after.end is None or len(suite.verdicts(after.records)) != len(whole):
        count.happened(UNFINISHED)
    done = after.records if after else []
    kept = {record.key: record for record in done}
    for record in before.records if before else []:
        if kept.get(record.key) != record:
            count.happened(LOST)
    count.happened(TWICE, len(done) - len(kept))
    count.happened(OTHER, sum(whole.get(r.key) != r.verdict for r in done))
