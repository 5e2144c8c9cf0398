"""A small suite on a small model, to be run and cut hundreds of times."""

from __future__ import annotations

import shutil
from pathlib import Path

from claimlens.ci.faults.forked import STORE
from claimlens.ci.run_files import StoredRun, has_begun, read_run, run_files
from claimlens.ci.selftests import micro
from claimlens.circuits.record import ClaimRecord

CLAIMS = 8
MODEL = "--claims-model=./model"
HEADER = """
import pytest

from claimlens.circuits import logit_diff
"""
CLAIM = '''
@pytest.mark.claim("cut/number-{number}", kind="identity", source="here")
def test_{number}(model, ioi, measure):
    """Claim {number}: every second one is false."""
    diff = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    assert diff {relation} {number} - 100
'''


def write(folder: Path, model: Path) -> Path:
    """The suite with a copy of a model, in a new folder."""
    folder.mkdir(parents=True)
    shutil.copytree(model, folder / "model")
    claims = [CLAIM.format(number=n, relation="<" if n % 2 else ">=") for n in range(CLAIMS)]
    (folder / "test_cut.py").write_text(HEADER + "".join(claims))
    return folder


def write_model(folder: Path, seed: int = 0) -> Path:
    """A small random model."""
    return micro.write_directory(folder, micro.random_model(seed))


def run_of(folder: Path) -> StoredRun | None:
    """The only run of a folder, if there is one that has begun."""
    files = list(filter(has_begun, run_files(folder / STORE)))
    if len(files) > 1:
        raise AssertionError(f"{folder} holds {len(files)} runs")
    return read_run(files[0]) if files else None


def verdicts(records: list[ClaimRecord]) -> dict[str, str]:
    """The verdict of each claim."""
    return {record.key: record.verdict for record in records}
