"""Many processes that write runs into one store at the same time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.progress import track

from claimlens.ci.faults.count import Count
from claimlens.ci.run_files import NoRun, read_run, run_files
from claimlens.ci.selftests.records import record
from claimlens.ci.store import Busy, RunFile
from claimlens.circuits.record import ClaimRecord, PromptsRecord

LOST, CORRUPT, TOGETHER = "runs lost", "runs corrupt", "a run written by two at a time"
FAILED = "processes that failed"
CLAIMS = 5


def one_store(folder: Path, processes: int, runs: int) -> Count:
    """`processes` write `runs` runs each into one store; then all want to go on with the same."""
    count = Count(
        "one-store",
        f"a run written to one store, by {processes} processes at a time, each closed and gone on "
        "with in its middle; then one run that all of them want to go on with at once",
    )
    count.must_not(LOST, CORRUPT, TOGETHER, FAILED)
    fork = multiprocessing.get_context("fork")
    barrier, entered = fork.Barrier(processes), fork.Value("i", 0)
    shared = _begin(folder / "shared", "shared")
    shared.close()
    writers = [
        fork.Process(target=_write_all, args=(folder, n, runs, shared.path, barrier, entered))
        for n in range(processes)
    ]
    for writer in writers:
        writer.start()
    for writer in track(writers, "one store"):
        writer.join()
        count.happened(FAILED, int(writer.exitcode != 0))
    count.happened(TOGETHER, abs(entered.value - 1))
    judge(count, folder, processes * runs)
    return count


def judge(count: Count, folder: Path, runs: int) -> None:
    """Count the runs that are not there as they were written."""
    count.tried += runs
    files = run_files(folder)
    count.happened(LOST, max(0, runs - len(files)))
    for file in files:
        try:
            run = read_run(file)
        except NoRun:
            count.happened(CORRUPT)
            continue
        wanted = [*_records(str(run.header["options"]["writer"]))]
        whole = run.records == wanted and len(run.prompts) == 1 and run.end is not None
        count.happened(CORRUPT, int(not whole or run.resumed != 1))


def _write_all(
    folder: Path, writer: int, runs: int, shared: Path, barrier: Any, entered: Any
) -> None:
    try:
        for number in range(runs):
            _write(folder, f"{writer}/{number}")
    except BaseException:
        barrier.abort()  # the others must not wait for one that failed
        raise
    barrier.wait()
    try:
        run = RunFile.reopen(shared, shared.stat().st_size, set())
    except Busy:
        barrier.wait()
        return
    with entered.get_lock():
        entered.value += 1
    barrier.wait()  # until all have tried
    run.close()


def _write(folder: Path, name: str) -> None:
    run = _begin(folder, name)
    run.close()
    again = RunFile.reopen(run.path, run.path.stat().st_size, {_prompts(name).digest})
    for each in [*_records(name)][1:]:
        again.add(each)
    again.finish({"exit": 0, "claims": CLAIMS})
    again.close()


def _begin(folder: Path, name: str) -> RunFile:
    run = RunFile.create(folder, {"writer": name})
    run.add_prompts(_prompts(name))
    run.add(next(_records(name)))
    return run


def _records(name: str) -> Iterator[ClaimRecord]:
    for number in range(CLAIMS):
        yield record(claim=f"run/{name}/{number}", reason="x" * (1000 * number))


def _prompts(name: str) -> PromptsRecord:
    return PromptsRecord(f"{name}-prompts", ["a"], ["b"], ["c"])
