"""Each fault is made here a few times; and a product that loses what it must keep is noticed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claimlens.ci import recovery
from claimlens.ci.baseline import Baseline
from claimlens.ci.faults import costs, disks, hostile, kills, mutations, one_store, payloads, suite
from claimlens.ci.faults.count import Count
from claimlens.ci.faults.forked import import_all
from claimlens.ci.faults.sweeps import judge as judge_sweep
from claimlens.ci.faults.sweeps import sweeps
from claimlens.ci.run_files import StoredRun
from claimlens.ci.selftests.records import record
from claimlens.ci.store import RunFile
from claimlens.ci.sweep import Unit
from claimlens.circuits.record import ClaimRecord

Part = Callable[[Path], Count]
TINY: dict[str, Part] = {
    "one-store": lambda folder: one_store.one_store(folder, 4, 5),
    "mutations": lambda folder: mutations.mutations(folder, 200),
    "ids": lambda folder: hostile.ids(folder, 100),
    "tokens": lambda folder: hostile.tokens(folder, 30),
    "disks": lambda folder: disks.disks(folder, 1),
    "kills": lambda folder: kills.kills(folder, 4),
    "sweep": lambda folder: sweeps(folder, 1, 1),
    "gate-costs": lambda folder: costs.gate_costs(folder, 50),
    "writing-costs": lambda folder: costs.writing_costs(folder, ["claims/ioi/test_task.py"]),
}


@pytest.fixture(scope="module", autouse=True)
def imported(found_by_all: None) -> None:
    import_all()


@pytest.mark.parametrize("part", TINY)
def test_nothing_happens_that_must_not(part: str, tmp_path: Path) -> None:
    count = TINY[part](tmp_path / part)
    assert count.passed, count
    assert count.part == part


def red(count: Count, thing: str) -> None:
    assert count.bad[thing] > 0, count
    assert not count.passed


# --- a product that does what it must not


def test_a_writer_that_leaves_lines_out_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = RunFile.add
    monkeypatch.setattr(
        RunFile, "add", lambda run, each: None if each.claim.endswith("3") else add(run, each)
    )
    red(one_store.one_store(tmp_path, 2, 2), one_store.CORRUPT)


def test_runs_that_overwrite_each_other_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Same:
        @staticmethod
        def token_hex(n: int) -> str:
            return "0" * 2 * n

    monkeypatch.setattr("claimlens.ci.store.secrets", Same)
    monkeypatch.setattr("claimlens.ci.store._stamp", lambda folder: "20260101T000000Z")
    red(one_store.one_store(tmp_path, 2, 2), one_store.FAILED)


def test_two_that_write_one_run_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Open:
        def release(self) -> None: ...

    monkeypatch.setattr("claimlens.ci.store._lock", lambda path: Open())
    red(one_store.one_store(tmp_path, 3, 2), one_store.TOGETHER)


def test_a_recovery_that_loses_an_intact_line_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = recovery._take

    def taken(run: StoredRun, line: dict[str, Any], kept: list[bytes]) -> None:
        if line.get("seed") == 5:
            raise ValueError("not today")
        take(run, line, kept)

    monkeypatch.setattr(recovery, "_take", taken)
    red(mutations.mutations(tmp_path / "x", 40), mutations.LOST)


def test_a_reader_that_falls_over_damage_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claimlens.ci.recovery.parsed", json.loads)
    monkeypatch.setattr("claimlens.ci.run_files.parsed", json.loads)
    red(mutations.mutations(tmp_path / "x", 300), mutations.TRACEBACKS)


def test_a_name_that_gets_out_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Unit, "of", classmethod(lambda cls, m, store, *_: cls(m, store / ".." / "x"))
    )
    red(hostile.ids(tmp_path, 5), hostile.OUTSIDE)


@pytest.mark.parametrize(
    ("log", "thing"),
    [
        ("test_text[./model-0]\n::error::x", hostile.OBEYED),
        ("test_text[./model-0]\n  ##[group]x", hostile.OBEYED),
        ("test_text[./model-0]\n" + "::error title=a::b\n" * 11, hostile.OBEYED),
        ("test_text[./model-0]\x1b[31m", hostile.RAW),
        ("test_text[./model-0]\u202e", hostile.RAW),
        ("nothing", hostile.UNTOLD),
    ],
)
def test_what_would_be_obeyed_is_noticed(log: str, thing: str) -> None:
    count = Count("tokens", "x", tried=1)
    count.must_not(hostile.OBEYED, hostile.RAW, hostile.UNTOLD)
    hostile.judge(count, "test_text[./model-0]\n" + "::error title=a::b\n" * 10, 1)
    assert count.passed
    hostile.judge(count, log, 1)
    red(count, thing)


def test_output_as_it_is_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claimlens.ci.plain_text.shown", lambda text: text)
    red(hostile.tokens(tmp_path, 30), hostile.RAW)


def test_a_payload_that_runs_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"trusting": lambda home, data: pickle.loads(data)}
    monkeypatch.setattr(payloads, "PLACES", places)
    monkeypatch.setattr(payloads, "KINDS", {"pickle": payloads.KINDS["pickle"]})
    red(payloads.payloads(tmp_path / "x"), payloads.EXECUTED)


def test_a_payload_that_could_not_run_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads, "PLACES", {"nowhere": lambda home, data: None})
    monkeypatch.setattr(payloads, "KINDS", {"pickle": lambda payload: b"\x80\x04."})
    red(payloads.payloads(tmp_path / "x"), payloads.DEAD)


@pytest.mark.parametrize(
    ("code", "output", "thing"),
    [
        (1, "results: runs/x.jsonl", disks.SILENT),
        (0, f"{disks.TOLD} runs", disks.GREEN),
        (1, f"{disks.TOLD} runs\n{disks.TRACE}:", disks.TRACEBACK),
    ],
)
def test_a_run_that_does_not_say_what_its_disk_did_is_noticed(
    code: int, output: str, thing: str
) -> None:
    count = Count("disks", "x", tried=1)
    count.must_not(disks.TRACEBACK, disks.SILENT, disks.GREEN)
    disks.judge(count, 1, f"{disks.TOLD} runs")
    assert count.passed
    disks.judge(count, code, output)
    red(count, thing)


def test_half_a_baseline_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(baseline: Baseline, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{" * 9999)

    monkeypatch.setattr(Baseline, "save", save)
    red(disks.disks(tmp_path, 1), disks.HALF)


def test_a_writer_that_fails_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = one_store._begin

    def failing(folder: Path, name: str) -> RunFile:
        if name.startswith("1/"):
            raise OSError("one of them")
        return begin(folder, name)

    monkeypatch.setattr(one_store, "_begin", failing)
    red(one_store.one_store(tmp_path, 3, 2), one_store.FAILED)


WHOLE = {f"cut/number-{n}": "holds" for n in range(3)}


def stored(*records: ClaimRecord, end: bool = True) -> StoredRun:
    return StoredRun(Path("x"), records=list(records), end={"type": "end"} if end else None)


DONE = [record(claim=name, head=None, reason=name) for name in WHOLE]


@pytest.mark.parametrize(
    ("after", "thing"),
    [
        (None, kills.UNFINISHED),
        (stored(*DONE, end=False), kills.UNFINISHED),
        (stored(*DONE[:2]), kills.UNFINISHED),
        (stored(replace(DONE[0], reason="measured again"), *DONE[1:]), kills.LOST),
        (stored(*DONE, DONE[2]), kills.TWICE),
        (stored(*DONE[:2], replace(DONE[2], verdict="refuted")), kills.OTHER),
    ],
)
def test_what_a_kill_cost_is_noticed(after: StoredRun | None, thing: str) -> None:
    count = Count("kills", "x", tried=1)
    count.must_not(kills.LOST, kills.TWICE, kills.OTHER, kills.UNFINISHED)
    kills.judge(count, stored(*DONE[:1], end=False), stored(*DONE), WHOLE)
    kills.judge(count, None, stored(*DONE), WHOLE)
    assert count.passed
    kills.judge(count, stored(*DONE[:1], end=False), after, WHOLE)
    red(count, thing)


def test_a_result_that_was_told_and_not_stored_is_noticed() -> None:
    count = Count("kills", "x", tried=1)
    count.must_not(kills.LOST, kills.TWICE, kills.OTHER, kills.UNFINISHED)
    told = ["cut/number-0"]
    kills.judge(count, stored(*DONE[:1], end=False), stored(*DONE), WHOLE, told)
    assert count.passed
    kills.judge(count, None, stored(*DONE), WHOLE, told)
    red(count, kills.LOST)


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("test_cut.py::test_3[./model] REFUTED     [ 50%]", "3"),
        ("test_cut.py::test_4[./model] HOLDS       [ 50%]", "4"),
        ("[gw0] [ 12%] HOLDS test_cut.py::test_0[./model] ", "0"),
    ],
)
def test_what_pytest_tells_is_read(line: str, number: str) -> None:
    assert ["".join(found) for found in kills.TOLD.findall(line)] == [number]


def test_a_sweep_that_is_not_as_the_other_is_noticed() -> None:
    from claimlens.ci.faults import sweeps as part

    whole = {"a": [record(claim=str(n)) for n in range(suite.CLAIMS)]}
    for killed, thing in (
        ({}, part.MISSING),
        ({"a": whole["a"][1:]}, part.MISSING),
        ({"a": [*whole["a"][1:], record(claim="9")]}, part.OTHER),
    ):
        count = Count("sweep", "x", tried=1)
        count.must_not(part.MISSING, part.OTHER)
        judge_sweep(count, whole, whole, ["a"])
        assert count.passed
        judge_sweep(count, whole, killed, ["a"])
        red(count, thing)
