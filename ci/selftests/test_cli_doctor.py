"""`claimlens doctor`: each thing that it looks at can be amiss, and then it says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from claimlens.ci import health
from claimlens.ci.cli import main
from claimlens.ci.health import Finding
from claimlens.ci.selftests.processes import ROOT


@pytest.fixture(autouse=True)
def in_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_here_nothing_is_at_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--store", str(tmp_path / "runs")]) == 0
    told = capsys.readouterr().out
    for what in ("Python", "pytest", "torch", "shtab", "devices", "plugins of pytest", "disk"):
        assert f"{what}: " in told
    assert not (tmp_path / "runs").exists()


def test_a_fault_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health, "plugins", lambda: Finding("fault", "plugins", "\x1b", "mend it"))
    assert main(["doctor", "--store", str(tmp_path)]) == 1
    assert "fault    plugins: \\x1b; mend it\n" in capsys.readouterr().out


def test_programs_read_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--store", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"state", "what", "told", "mend"} == set(found[0])


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (2, 7)])
def test_another_python(version: tuple[int, int]) -> None:
    assert health.python(version).state == "fault"
    assert health.python((3, 12)).state == "ok"


def test_a_package_that_is_missing_or_of_another_version() -> None:
    missing = health.dependency(Requirement("no-such-package>=2"))
    assert (missing.state, missing.mend) == ("fault", "pip install 'no-such-package>=2'")
    old = health.dependency(Requirement("pytest>=900"))
    assert old.state == "fault"
    assert old.told.endswith("expected >=900")


def test_the_versions_of_a_clone_are_those_of_its_project() -> None:
    names = {Requirement(text).name for text in health._of_clone()}
    assert {"torch", "pytest", "rich"} <= names


def test_threads_that_nobody_set() -> None:
    assert health.threads({}).state == "warning"
    assert health.threads({"OMP_NUM_THREADS": "1"}).state == "ok"


def test_plugins_that_are_not_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(health, "entry_points", lambda group: ())
    found = health.plugins()
    assert found.state == "fault"
    assert "claimlens.ci.plugin" in found.told


def test_a_hub_that_may_not_be_asked() -> None:
    assert "no model is fetched" in health.hub({"HF_HUB_OFFLINE": "1"}).told
    assert health.hub({"HF_HOME": "here"}).told == "cache here"


def test_a_store_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.writable(tmp_path / "a" / "b").state == "ok"
    monkeypatch.setattr("os.access", lambda *_: False)
    assert health.writable(tmp_path).state == "fault"


def test_a_damaged_run(tmp_path: Path) -> None:
    (tmp_path / "20260101T000000Z-0000000a.jsonl").write_text("{}\n")
    (found,) = health.damaged(tmp_path)
    assert found.state == "warning"
    assert "claimlens recover" in found.told


def test_a_full_disk(tmp_path: Path) -> None:
    assert health.room(tmp_path, 1000).state == "warning"
    assert health.room(tmp_path, health.ROOM).state == "ok"
