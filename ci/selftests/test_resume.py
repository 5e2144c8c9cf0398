"""A run that was cut goes on where it was; one that would be another run is refused."""

from __future__ import annotations

import re
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from claimlens.ci.resume import Changed, Resumed
from claimlens.ci.run_files import StoredRun, read_run, run_files
from claimlens.ci.selftests import micro
from claimlens.ci.selftests.micro import Run
from claimlens.ci.selftests.records import record
from claimlens.ci.store import RunFile

NAMES = ("a", "b", "c", "d", "e")
INTERRUPTIBLE = """
import signal

# what is started in the background ignores SIGINT, and so do its children
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
HEADER = '''
import os
import signal
import time
from pathlib import Path

import pytest

def stored_two():
    files = Path("runs").glob("*.jsonl")
    return any(file.read_text().count('"type": "claim"') == 2 for file in files)

def note(name):
    """Count how often a claim ran; the third kills the process while it may."""
    with open("ran.txt", "a") as file:
        file.write(name)
    if name == "c" and Path("kill").exists():
        whom, how = Path("kill").read_text().split()
        Path("kill").unlink()
        while whom == "parent" and not stored_two():
            time.sleep(0.05)
        os.kill({"me": os.getpid(), "parent": os.getppid()}[whom], getattr(signal, how))
'''
CLAIM = '''
@pytest.mark.claim("cut/{name}", kind="identity", source="here")
def test_{name}(model, ioi, measure):
    """Claim {name} of five."""
    note("{name}")
    counted = measure(lambda p: [float(i) for i in range(len(p))], on=ioi, unit="x", exact=True)
    assert counted {relation}
'''


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return micro.write_directory(tmp_path_factory.mktemp("resume") / "model")


@pytest.fixture
def suite(model: Path, tmp_path: Path) -> Path:
    """A folder with five claims, all of which hold."""
    folder = tmp_path / "suite"
    folder.mkdir()
    shutil.copytree(model, folder / "model")
    (folder / "conftest.py").write_text(INTERRUPTIBLE)
    write_claims(folder)
    return folder


def write_claims(folder: Path, relations: str = "", names: tuple[str, ...] = NAMES) -> None:
    """The claims; those named in `relations` are false."""
    claims = [
        CLAIM.format(name=name, relation="< -1" if name in relations else ">= -1") for name in names
    ]
    (folder / "test_cut.py").write_text(HEADER + "".join(claims))


def go(folder: Path, *options: str) -> Run:
    return micro.run_pytest(folder, "--claims-model=./model", *options)


def cut(folder: Path, how: str = "SIGKILL") -> StoredRun:
    """A run that was killed while its third claim ran."""
    (folder / "kill").write_text(f"me {how}")
    go(folder)
    assert ran(folder) == "abc"
    return stored(folder)


def stored(folder: Path) -> StoredRun:
    (path,) = run_files(folder / "runs")
    return read_run(path)


def ran(folder: Path) -> str:
    return (folder / "ran.txt").read_text()


def verdicts(run: StoredRun) -> dict[str, str]:
    return {record.claim.removeprefix("cut/"): record.verdict for record in run.records}


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_killed_run_goes_on_where_it_was(suite: Path, how: str) -> None:
    before = cut(suite, how)
    assert verdicts(before) == {"a": "holds", "b": "holds"}
    again = go(suite, f"--claims-resume={before.id}")
    assert again.code == 0
    assert ran(suite) == "abccde"
    assert "3 passed, 2 deselected" in again.output
    assert "./model" in again.output
    assert ": 5 holds" in again.output
    whole = stored(suite)
    assert verdicts(whole) == dict.fromkeys(NAMES, "holds")
    assert whole.resumed == 1
    assert whole.end is not None
    assert (whole.end["exit"], whole.end["claims"]) == (0, 5)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_under_xdist_a_killed_run_goes_on_where_it_was(suite: Path, how: str) -> None:
    (suite / "kill").write_text(f"parent {how}")
    go(suite, "-n2", "--dist=loadscope")
    before = verdicts(stored(suite))
    assert set(before) == {"a", "b"}
    again = go(suite, "-n2", "--dist=loadscope", "--claims-resume=latest")
    assert again.code == 0, again.output
    assert all(ran(suite).count(name) == 1 for name in before)
    assert verdicts(stored(suite)) == dict.fromkeys(NAMES, "holds")


def test_under_xdist_a_dead_worker_is_told_and_its_claim_measured_again(suite: Path) -> None:
    (suite / "kill").write_text("me SIGKILL")
    run = go(suite, "-n2", "--dist=loadscope")
    assert run.code == 1
    assert "crashed while running" in run.output
    assert ran(suite) == "abccde"
    assert verdicts(stored(suite)) == dict.fromkeys(NAMES, "holds")


def test_half_a_line_is_taken_away(suite: Path) -> None:
    before = cut(suite)
    text = before.path.read_bytes()
    half = text.splitlines()[-1][:50]
    before.path.write_bytes(text + half)
    assert read_run(before.path).intact == len(text)
    assert go(suite, "--claims-resume=latest").code == 0
    assert verdicts(stored(suite)) == dict.fromkeys(NAMES, "holds")


def test_what_failed_before_fails_the_whole(suite: Path) -> None:
    write_claims(suite, "a")
    before = cut(suite)
    assert verdicts(before) == {"a": "refuted", "b": "holds"}
    again = go(suite, "--claims-resume=latest")
    assert "3 passed" in again.output
    assert again.code == 1
    assert stored(suite).end["exit"] == 1  # type: ignore[index]  # it has an end


@pytest.mark.parametrize(("false", "code"), [("", 0), ("b", 1)])
def test_of_a_whole_run_nothing_is_left_to_do(suite: Path, false: str, code: int) -> None:
    write_claims(suite, false)
    assert go(suite).code == code
    again = go(suite, "--claims-resume=latest")
    assert ran(suite) == "abcde"
    assert "5 deselected" in again.output
    assert again.code == code


# --- refused -------------------------------------------------------------------------------------


def refused(run: Run, told: str) -> bool:
    """Whether the run says so in one line, without a traceback."""
    lines = [line for line in run.output.splitlines() if re.search(told, line)]
    return run.code == 4 and len(lines) == 1 and "Traceback" not in run.output


def test_a_claim_that_was_changed(suite: Path) -> None:
    before = cut(suite)
    write_claims(suite, "b")
    told = r"--claims-resume: test_cut.py::test_b\[.*\] was changed since the run measured it"
    assert refused(go(suite, "--claims-resume=latest"), told)
    assert verdicts(read_run(before.path)) == verdicts(before)


def test_other_options(suite: Path) -> None:
    before = cut(suite)
    run = go(suite, "--claims-resume=latest", "--claims-seed=3")
    assert refused(run, f"run {before.id} had --claims-seed 0, this command has 3. It was started")
    assert "pytest -p claimlens.fixtures.plugin" in run.output


@pytest.mark.parametrize("options", [(), ("-n2", "--dist=loadscope")], ids=["serial", "xdist"])
def test_other_weights(suite: Path, options: tuple[str, ...]) -> None:
    before = cut(suite)
    file = suite / "model" / "model.safetensors"
    weights = load_file(file)
    weights["transformer.wte.weight"] *= 1.01
    save_file(weights, file, metadata={"format": "pt"})
    run = go(suite, "--claims-resume=latest", *options)
    assert run.code != 0
    assert f"the model ./model is not what run {before.id} measured: now revision" in run.output
    assert verdicts(read_run(before.path)) == verdicts(before)
    if not options:  # a worker may be one claim ahead
        assert ran(suite) == "abcc"


def test_a_run_that_is_being_written(suite: Path) -> None:
    before = cut(suite)
    busy = RunFile.reopen(before.path, before.intact, set())
    try:
        told = f"--claims-resume: {before.path.name} is being written by another process"
        assert refused(go(suite, "--claims-resume=latest"), told)
    finally:
        busy.close()


def test_a_damaged_run(suite: Path) -> None:
    before = cut(suite)
    before.path.write_bytes(before.path.read_bytes().replace(b'"type": "claim"', b'"type": "cl', 1))
    told = r"--claims-resume: .*line 3 is damaged.*`claimlens recover .*` keeps every line"
    assert refused(go(suite, "--claims-resume=latest"), told)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("2020", "no runs are called '2020'; such as 2"),
        ("../../etc", "is no run id; expected letters, digits and dashes"),
        ("\x1b[31m", "is no run id; expected letters"),
    ],
)
def test_a_run_that_there_is_not(suite: Path, name: str, told: str) -> None:
    cut(suite)
    run = go(suite, f"--claims-resume={name}")
    assert refused(run, told)
    assert "\x1b[31m" not in run.output


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"prompts": [{"name": "ioi", "n": 128, "digest": "other"}]}, "the prompts 'ioi' of gpt2"),
        ({"prompts": [{"name": "ioi", "n": 256, "digest": "other"}]}, ""),
        ({"model": {"name": "gpt2", "revision": "b", "dtype": "x"}}, "now revision 'b'; start a"),
        ({"model": {"name": "gpt2", "revision": "a", "dtype": "y"}}, "now dtype 'y'; start a new"),
        ({"model": {"name": "other", "revision": "b", "dtype": "x"}}, ""),
        ({"model": {"name": "gpt2"}}, ""),
    ],
)
def test_a_result_of_something_else(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    plain = {
        "model": {"name": "gpt2", "revision": "a", "dtype": "x"},
        "prompts": [{"name": "ioi", "n": 128, "digest": "the same"}],
    }
    known = record(**plain)
    resumed = Resumed(StoredRun(tmp_path / "r.jsonl", header={}, records=[known]))
    with pytest.raises(Changed, match=told) if told else nullcontext():
        resumed.check(record(**{**plain, **change}))


def test_an_empty_store(suite: Path) -> None:
    assert refused(go(suite, "--claims-resume=latest"), "--claims-resume: no runs in ")
