"""The result cache shared by several processes, and by the claims of several runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import torch

from claimlens.ci.selftests.processes import RunClaims
from claimlens.fixtures.results import ResultCache

# --- several processes at once -------------------------------------------------------------------


def squared(values: torch.Tensor, number: int) -> torch.Tensor:
    return values * number**2


WRITER = """
import sys, warnings
from pathlib import Path
import torch
from claimlens.fixtures.results import ResultCache

def squared(values, number):
    return values * number**2

if __name__ == "__main__":
    warnings.simplefilter("error")
    results = ResultCache(Path(sys.argv[1]), max_bytes=int(sys.argv[2]))
    for turn in range(60):
        number = (turn * int(sys.argv[3])) % 11
        value = results.measure(squared, torch.full((32,), 2.0), number)
        assert torch.equal(value, torch.full((32,), 2.0 * number**2)), (number, value)
    print(len(results.reused))
"""


def test_several_processes_write_at_once(tmp_path: Path, clone_site: Path) -> None:
    """Four writers in one small folder: every number right, no warning, the limit kept."""
    script, folder = tmp_path / "writer.py", tmp_path / "results"
    script.write_text(WRITER)
    ResultCache(tmp_path / "one").measure(squared, torch.full((32,), 2.0), 1)
    size = 7 * next((tmp_path / "one").glob("*.result")).stat().st_size
    command = [sys.executable, str(script), str(folder), str(size)]
    env = {**os.environ, "PYTHONPATH": str(clone_site), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([*command, str(step)], env=env, stdout=PIPE, stderr=PIPE, text=True)
        for step in (1, 3, 5, 7)
    ]
    ended = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0] * 4, ended
    assert sum(int(out) for out, _ in ended) > 0
    entries = list(folder.glob("*.result"))
    assert entries
    assert sum(path.stat().st_size for path in entries) <= size
    assert not list(folder.glob(".*.part"))


# --- in a run of claims --------------------------------------------------------------------------

CLAIM = '''
import pytest
from claimlens.circuits import logit_diff

@pytest.mark.claim("mine/diff", kind="behaviour", source="our own notebook")
def test_diff(model, ioi, measure, results):
    """The model prefers the indirect object."""
    diff = measure(lambda p: results.measure(logit_diff, model, p.clean), on=ioi, unit="logits")
    assert diff >= 1.0

@pytest.mark.claim("mine/lambda", kind="behaviour", source="our own notebook")
def test_lambda(model, ioi, measure, results):
    """A lambda has no name to be kept under."""
    diff = measure(lambda p: results.measure(lambda: logit_diff(model, p.clean)), on=ioi, unit="x")
    assert diff >= 1.0
'''


def test_claims_use_results_only_when_asked_and_say_so(run_claims: RunClaims) -> None:
    """What cannot be kept is refused with the option and without."""
    plain = run_claims({"test_mine.py": CLAIM})
    first = run_claims({}, "--claims-results=kept")
    second = run_claims({}, "--claims-results=kept")
    marked = [" results from the cache" in done.output for done in (plain, first, second)]
    assert marked == [False, False, True], second.output
    for done in (plain, first, second):
        assert done.code == 1
        assert re.search(r"^holds +default mine/diff", done.output, re.MULTILINE), done.output
        assert re.search(r"^not measured +default mine/lambda", done.output, re.MULTILINE)
        assert "is a lambda or a function inside a function" in done.output


def test_a_folder_that_is_no_results_folder_stops_the_run(run_claims: RunClaims) -> None:
    done = run_claims({"test_mine.py": CLAIM}, "--claims-results=.")
    assert done.code == 4
    assert "--claims-results:" in done.output
    assert "holds other files and no results" in done.output
