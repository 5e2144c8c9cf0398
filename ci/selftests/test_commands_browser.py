"""The commands that want a browser: `.ci/run` gets one, `ci/screenshots` takes pictures with it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from claimlens.ci.selftests.test_commands import Clone


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


APT = """#!/usr/bin/env bash
echo "apt-get $*" >>"$LOG"
[[ " $FAILS " != *" apt-get "* ]]
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs packages")
@pytest.mark.parametrize("fails", ["", "apt-get"])
def test_ci_installs_a_browser_where_there_is_none(clone: Clone, fails: str) -> None:
    (clone.bin / "apt-get").write_text(APT)
    (clone.bin / "apt-get").chmod(0o755)
    done = clone.run(".ci/run", fails=fails)
    assert done.code == 0, "it goes on without one"
    asked = [line for line in clone.log.read_text().splitlines() if line.startswith("apt-get")]
    assert any(" install " in line and line.endswith(" chromium") for line in asked) != bool(fails)
    assert ("no browser: apt-get could not install chromium" in done.output) == bool(fails)


def test_ci_installs_no_browser_where_there_is_one(clone: Clone) -> None:
    for name in ("apt-get", "google-chrome"):
        (clone.bin / name).write_text(APT)
        (clone.bin / name).chmod(0o755)
    done = clone.run(".ci/run")
    assert done.code == 0
    assert "apt-get" not in clone.log.read_text()
    assert "no browser" not in done.output


def test_ci_says_that_there_is_no_browser(clone: Clone) -> None:
    assert "no browser: chromium can be installed" in clone.run(".ci/run").output


def test_pictures_are_of_a_report_that_there_is(clone: Clone, tmp_path: Path) -> None:
    assert clone.run("ci/screenshots", str(tmp_path)).code == 0
    assert clone.calls("claimlens.ci.pictures") == [str(tmp_path)]
    assert clone.calls("pytest") == []


def test_or_else_of_one_that_is_made(clone: Clone) -> None:
    (clone.bin / "mktemp").symlink_to(str(shutil.which("mktemp")))
    assert clone.run("ci/screenshots").code == 0
    (call,) = clone.calls("pytest")
    (update,) = clone.calls("claimlens.ci.pictures.update")
    (given,) = clone.calls("claimlens.ci.pictures")
    made = update.removesuffix("/gated")
    assert call == f"claims -q --claims-store {made}/runs --claims-report {made}/report"
    assert given == f"{made}/report --gate {made}/gated/report"
    assert not Path(made).exists(), "what was made for it alone is removed"
