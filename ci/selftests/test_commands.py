"""The commands `ci/claims`, `ci/test` and `ci/bench`, on a copy with a stand-in for Python.

The stand-in writes down how it was called, makes a .venv that holds itself, and fails where it is
told to: so the logic of the set-up is tested without installing anything.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from claimlens.ci.selftests.processes import ROOT, Finished

TOOLS = ("bash", "env", "cat", "cksum", "mkdir", "rm", "ln", "touch", "dirname", "flock", "cp")
COPIED = (
    "ci/claims", "ci/test", "ci/bench", "ci/setup.sh", "ci/constraints.txt", "pyproject.toml",
    "ci/screenshots", ".ci/run", "ci/benchmarks/peers.sh", "ci/benchmarks/peers.txt",
)  # fmt: skip

STAND_IN = r"""#!/usr/bin/env bash
fails() { [[ " ${FAILS:-} " == *" $1 "* ]]; }
case "$1 ${2:-}" in
    "-c "*) ! fails range; exit ;;
    "--version "*) echo "Python 3.99.1"; exit ;;
    "- "*) cat >/dev/null; echo "pytest"; exit ;; # the small programs that come on stdin
    "-m venv") mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
esac
words=("${@// /_}") # so that one argument with a space is not two without
printf '%s\n' "${words[*]}" "threads=${OMP_NUM_THREADS:-} wait=${OMP_WAIT_POLICY:-}" >>"$LOG"
if fails interrupt && [ "$2" = pip ]; then kill -INT 0; fi
! fails "$2"
"""


class Clone:
    """A copy of the commands in a folder of its own, with nothing on PATH but the stand-in."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a clone with spaces"
        self.shown = str(self.root).replace(" ", "_")
        self.bin = folder / "bin"
        self.log = folder / "log"
        for name in COPIED:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        self.bin.mkdir()
        for tool in TOOLS:
            if found := shutil.which(tool):  # flock is missing on some systems
                (self.bin / tool).symlink_to(found)
        self.add_python("python3")

    def add_python(self, name: str) -> None:
        (self.bin / name).write_text(STAND_IN)
        (self.bin / name).chmod(0o755)

    def run(self, command: str, *arguments: str, fails: str = "", **env: str) -> Finished:
        """Run a command of the clone; `fails` names the calls that the stand-in refuses."""
        self.log.write_text("")
        done = subprocess.run(
            [str(self.root / command), *arguments],
            cwd="/",
            env={"PATH": str(self.bin), "LOG": str(self.log), "FAILS": fails, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
            start_new_session=True,
            # a parent that ignores Ctrl-C would hand that on
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        return Finished(done.returncode, done.stdout)

    def calls(self, of: str) -> list[str]:
        """How `python -m <of>` was called."""
        lines = self.log.read_text().splitlines()
        return [line.removeprefix(f"-m {of} ") for line in lines if line.startswith(f"-m {of} ")]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_the_first_run_installs_and_passes_arguments_on(clone: Clone) -> None:
    done = clone.run("ci/claims", "--claims-model", "planted", "-k", "a b")
    assert done.code == 0, done.output
    assert clone.calls("venv") == [f"--clear {clone.shown}/.venv"]
    (install,) = clone.calls("pip")
    assert f"--constraint {clone.shown}/ci/constraints.txt" in install
    assert clone.calls("pytest") == ["claims --claims-model planted -k a_b"]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (["claims/ioi", "-x"], "claims/ioi -x"),
        (["-x", "claims"], "-x claims"),
        (["--claims-store", "runs"], "claims --claims-store runs"),
    ],
)
def test_claims_that_are_named_are_those(clone: Clone, given: list[str], asked: str) -> None:
    clone.run("ci/claims", *given)
    assert clone.calls("pytest") == [asked]


def test_the_second_run_installs_nothing(clone: Clone) -> None:
    clone.run("ci/claims")
    done = clone.run("ci/claims")
    assert done.code == 0, done.output
    assert clone.calls("venv") + clone.calls("pip") == []
    assert clone.calls("pytest") == ["claims"]


@pytest.mark.parametrize("changed", ["ci/constraints.txt", "pyproject.toml"])
def test_changed_versions_are_installed_into_the_same_venv(clone: Clone, changed: str) -> None:
    clone.run("ci/claims")
    with (clone.root / changed).open("a") as file:
        file.write("# changed\n")
    done = clone.run("ci/claims")
    assert done.code == 0, done.output
    assert clone.calls("venv") == []
    assert len(clone.calls("pip")) == 1


def test_dev_includes_core_but_not_the_reverse(clone: Clone) -> None:
    clone.run("ci/claims")
    clone.run("ci/test")
    assert len(clone.calls("pip")) == 1
    clone.run("ci/claims")
    assert clone.calls("pip") == []


def test_a_failed_installation_is_an_error_and_is_repeated(clone: Clone) -> None:
    assert clone.run("ci/claims", fails="pip").code != 0
    assert clone.calls("pytest") == []
    assert clone.run("ci/claims").code == 0
    assert (len(clone.calls("venv")), len(clone.calls("pip"))) == (1, 1)


def test_an_interrupted_installation_ends_at_once_and_is_repeated(clone: Clone) -> None:
    done = clone.run("ci/claims", fails="interrupt")
    assert done.code == 130
    assert "Interrupted: the next run starts the installation anew." in done.output
    assert clone.calls("pytest") == []
    assert clone.run("ci/claims").code == 0
    assert (len(clone.calls("venv")), len(clone.calls("pip"))) == (1, 1)


def test_no_usable_python_says_what_was_found_and_what_is_needed(clone: Clone) -> None:
    done = clone.run("ci/claims", fails="range")
    assert done.code == 1
    assert "python3 (Python 3.99.1); python3.13 (does not run)" in done.output
    assert "needs Python 3.11, 3.12 or 3.13" in done.output
    assert not (clone.root / ".venv").exists()


def test_another_python_can_be_named(clone: Clone) -> None:
    (clone.bin / "python3").unlink()
    clone.add_python("mine")
    assert clone.run("ci/claims").code == 1
    assert clone.run("ci/claims", PYTHON="mine").code == 0


def test_one_thread_unless_the_user_says_otherwise(clone: Clone) -> None:
    clone.run("ci/claims")
    assert "threads=1 wait=PASSIVE" in clone.log.read_text()
    clone.run("ci/claims", OMP_NUM_THREADS="8", OMP_WAIT_POLICY="ACTIVE")
    assert "threads=8 wait=ACTIVE" in clone.log.read_text()


def test_the_exit_code_is_that_of_pytest(clone: Clone) -> None:
    assert clone.run("ci/claims", fails="pytest").code == 1
    assert clone.run("ci/claims").code == 0


def test_every_step_runs_and_the_failed_are_named(clone: Clone) -> None:
    done = clone.run("ci/test", fails="ruff mypy")
    assert done.code == 1
    assert done.output.rstrip().endswith("failed: style format types")
    assert [call.split()[0] for call in clone.calls("pytest")] == ["ci/selftests", "claims"]


def test_ci_runs_the_test_command(clone: Clone) -> None:
    done = clone.run(".ci/run")
    assert done.code == 0
    assert done.output.rstrip().endswith("all steps passed")
    assert clone.calls("ruff") == ["check", "format --check"]
    assert clone.calls("pytest")[1] == "claims --claims-model default --claims-model planted"


def test_arguments_of_the_test_command_choose_self_tests(clone: Clone) -> None:
    assert clone.run("ci/test", "-k", "verdict").code == 0
    assert clone.calls("pytest") == ["ci/selftests -k verdict"]
    assert clone.calls("ruff") + clone.calls("mypy") == []


def test_the_benchmarks_run_in_an_environment_with_the_peers(clone: Clone) -> None:
    done = clone.run("ci/bench", "--quick")
    assert done.code == 0, done.output
    assert clone.calls("venv")[1] == f"--clear {clone.shown}/.venv-peers"
    assert f"--requirement {clone.shown}/ci/benchmarks/peers.txt" in clone.calls("pip")[1]
    (call,) = clone.calls("pytest")
    assert call.startswith("ci/benchmarks --ignore=ci/benchmarks/bench_growth.py -o ")
    assert call.endswith(" --quick")
    assert clone.run("ci/bench", "--quick", fails="pytest").code == 1
    assert clone.calls("venv") + clone.calls("pip") == []


@pytest.mark.parametrize("word", ["growth", "--without-nnsight"])
def test_the_benchmarks_run_without_the_peers(clone: Clone, word: str) -> None:
    assert clone.run("ci/bench", word, "--quick", fails="nothing").code == 0
    assert len(clone.calls("pip")) == 1
    (call,) = clone.calls("pytest")
    assert word not in call.split()
    assert ("ci/benchmarks/bench_growth.py" in call.split()) == (word == "growth")


def test_the_peers_are_installed_again_where_that_failed(clone: Clone) -> None:
    clone.run("ci/test")
    assert clone.run("ci/bench", fails="pip").code != 0
    assert clone.calls("pytest") == []
    assert clone.run("ci/bench").code == 0
    assert len(clone.calls("pip")) == 1


def test_the_import_package_is_a_folder_of_links(clone: Clone) -> None:
    (clone.root / ".dev").mkdir()
    (clone.root / ".dev" / "claimlens").symlink_to(clone.root)
    (clone.root / "circuits").mkdir()
    for _ in range(2):
        assert clone.run("ci/claims").code == 0
        package = clone.root / ".dev" / "claimlens"
        assert sorted(link.name for link in package.iterdir()) == [
            "ci", "circuits", "claims", "fixtures",
        ]  # fmt: skip
        assert (package / "circuits").samefile(clone.root / "circuits")


# --- what is pinned ------------------------------------------------------------------------------


def wanted(extras: str) -> Iterator[Requirement]:
    """What ci/setup.sh would have pip install, as it reads it from pyproject.toml."""
    script = f'source ci/setup.sh; python="{sys.executable}"; requirements {extras}'
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    yield from map(Requirement, done.stdout.splitlines())


def test_everything_that_is_installed_is_pinned_within_its_range() -> None:
    lines = (ROOT / "ci" / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    for requirement in wanted("dev"):
        assert canonicalize_name(requirement.name) in pinned
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_dev_adds_the_tools_to_what_the_claims_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert list(wanted("core")) == [Requirement(text) for text in project["dependencies"]]
    assert {"ruff", "mypy", "pytest-xdist"} <= {requirement.name for requirement in wanted("dev")}
