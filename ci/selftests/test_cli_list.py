"""`claimlens list`: the claims that there are, and what the store says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from claimlens.ci.cli import main
from claimlens.ci.selftests import micro
from claimlens.ci.selftests.processes import OWN_PLUGINS
from claimlens.ci.selftests.records import record
from claimlens.ci.store import RunFile

CLAIMS = '''
import pytest


@pytest.mark.parametrize("x", [1, 2])
@pytest.mark.claim("mine/twice", kind="identity", source="here")
def test_twice(x, model, measure):
    """Said
    once.

    Not this."""


@pytest.mark.claim("mine/movers", kind="mechanism", finding="ioi/task")
@pytest.mark.role("ioi/name_mover")
def test_movers(model, head, measure):
    """A \\x1b[31mmover."""


def test_no_claim():
    raise AssertionError
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "claimlens").symlink_to(micro.ROOT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("PYTEST_ADDOPTS", " ".join((*OWN_PLUGINS, "-p", "no:cacheprovider")))
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    (home / "test_mine.py").write_text(CLAIMS)
    return home


def stored(*verdicts: str) -> None:
    run = RunFile.create(Path(".claimlens/runs"), {})
    for number, verdict in enumerate(verdicts):
        run.add(record(claim="mine/twice", verdict=verdict, head=f"L1H{number}"))
    run.close()


def test_each_claim_stands_once_with_what_was_found_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stored("holds", "holds", "refuted")
    assert main(["list", "test_mine.py"]) == 0
    movers, twice = capsys.readouterr().out.splitlines()[1:3]
    assert movers.split() == ["mine/movers", "mechanism", "ioi/name_mover", "A", r"\x1b[31mmover."]
    assert "default: 2 holds, refuted" in twice
    assert twice.rstrip().endswith("Said once.")


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    stored("holds")
    assert main(["list", "test_mine.py", "--json"]) == 0
    movers, twice = json.loads(capsys.readouterr().out)
    assert twice["verdicts"] == {"default": {"holds": 1}}
    assert (movers["source"], movers["test"]) == ("ioi/task", "test_mine.py::test_movers")


def test_pytest_may_be_told_which(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--", "test_mine.py", "-k", "movers"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 claims"


def test_a_file_that_cannot_be_collected_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Path("test_bad.py").write_text("import nowhere_to_be_found")
    assert main(["list", "test_bad.py"]) == 2
    assert "nowhere_to_be_found" in capsys.readouterr().err


def test_a_damaged_run_is_named_beside_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".claimlens/runs").mkdir(parents=True)
    for n in range(5):
        Path(f".claimlens/runs/2026010{n}T000000Z-00000000.jsonl").write_text("}{\n")
    assert main(["list", "test_mine.py", "--json"]) == 0
    told = capsys.readouterr()
    assert len(json.loads(told.out)) == 2
    assert told.err.count("left out: ") == 4
    assert "left out: 2 more" in told.err
