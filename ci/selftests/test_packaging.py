"""claimlens as a guest: what its wheel holds, what it does in other people's pytest runs, and
whose code runs where.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from claimlens.ci.selftests.processes import ROOT, RunClaims, run_pytest
from claimlens.circuits import Head, margin_over_others

SHIPPED = ("circuits", "fixtures", "ci", "claims")
NOT_SHIPPED = ("ci/selftests", "ci/benchmarks", "ci/faults", "ci/pictures", "ci/workflows")
SCRIPTS = (
    "ci/bench", "ci/claimlens", "ci/claims", "ci/screenshots", "ci/site", "ci/test",
    "ci/torture", "ci/setup.sh", "ci/constraints.txt",
)  # fmt: skip
OPTIONS = ("--import-mode=importlib", "-q", "-s", "-rA")

PLAIN = "def test_plain():\n    assert 1 + 1 == 2\n"

CLAIMS = '''
import pytest
from claimlens.circuits import correct, logit_diff

@pytest.mark.claim("mine/accuracy", kind="behaviour", source="our own notebook")
def test_true(model, ioi, measure):
    """The model names the indirect object."""
    assert measure(lambda p: correct(model, p.clean), on=ioi, unit="share of prompts") >= 0.6

@pytest.mark.claim("mine/huge", kind="behaviour", source="our own notebook")
def test_false(model, ioi, measure):
    """The logit difference is a thousand."""
    assert measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits") >= 1000.0
'''

WATCH = """
import socket, sys
ASKED = []

def ask(host, *rest, **more):
    ASKED.append(host)
    raise OSError("no network in this test")

socket.socket.connect = lambda self, address: ask(address)
socket.getaddrinfo = socket.create_connection = ask

def pytest_unconfigure(config):
    heavy = {"torch", "numpy", "scipy", "transformers", "transformer_lens", "huggingface_hub"}
    print("imported:", sorted(heavy & set(sys.modules)))
    print("asked the network for:", ASKED)
    print("plugin:", sys.modules["claimlens.fixtures.plugin"].__file__)
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the clone, built from a copy: setuptools leaves its traces where it builds."""
    source, out = tmp_path_factory.mktemp("build") / "source", tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=ignored)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel is installed; dependencies are the environment's."""
    site = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--no-index", "--target", str(site), str(wheel))
    return site


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def belongs_in_the_wheel(path: Path) -> bool:
    name = path.as_posix()
    return not (
        path.is_dir() or "__pycache__" in path.parts or name in SCRIPTS
        or name.startswith(NOT_SHIPPED)
    )  # fmt: skip


# --- the wheel -----------------------------------------------------------------------------------


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    found = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in found}
    assert tops == {"claimlens", next(top for top in tops if top.endswith(".dist-info"))}
    paths = (p.relative_to(ROOT) for part in SHIPPED for p in (ROOT / part).rglob("*"))
    expected = {f"claimlens/{p.as_posix()}" for p in paths if belongs_in_the_wheel(p)}
    assert {name for name in found if name.startswith("claimlens/")} == expected


def test_the_wheel_holds_the_data_and_the_entry_points(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    for needed in ("circuits/findings/published.json", "fixtures/default/model.safetensors"):
        assert f"claimlens/{needed}" in names
    entries = next(name for name in names if name.endswith("entry_points.txt"))
    for plugin in ("claimlens.fixtures.plugin", "claimlens.ci.plugin"):
        # the name must equal the module's path, or a user's `pytest_plugins` clashes with it
        assert f"{plugin} = {plugin}\n" in archive.read(entries).decode()


def test_shipped_claims_and_ones_own_run_from_the_wheel(
    installed: Path, run_claims: RunClaims
) -> None:
    files = {"test_mine.py": CLAIMS, "watch.py": WATCH}
    chosen = ("test_mine.py", "--pyargs", "claimlens.claims.ioi", "-k", "mine or most_prompts")
    done = run_claims(files, *OPTIONS, "-p", "watch", *chosen, site=installed)
    assert done.code == 1, done.output
    totals = next(line for line in done.output.splitlines() if line.startswith("default ("))
    assert totals.endswith(": 2 holds, 1 refuted"), done.output
    assert "ioi/accuracy" in done.output
    assert "REFUTED test_mine.py::test_false" in done.output
    assert f"plugin: {installed}" in done.output
    assert "asked the network for: []" in done.output


# --- a guest in other people's pytest ------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--collect-only",)], ids=["run", "collect"])
def test_without_a_claim_nothing_heavy_is_imported(
    run_claims: RunClaims, options: tuple[str, ...]
) -> None:
    files = {"test_plain.py": PLAIN, "watch.py": WATCH}
    done = run_claims(files, "-p", "watch", "-s", "-p", "no:jaxtyping", *options)
    assert done.code == 0, done.output
    assert "imported: []" in done.output
    assert "asked the network for: []" in done.output


def test_the_watch_sees_an_import_and_a_connection(run_claims: RunClaims) -> None:
    asking = "import socket\nimport numpy\n\ndef test():\n    socket.create_connection(('a', 1))\n"
    done = run_claims({"test_asking.py": asking, "watch.py": WATCH}, "-p", "watch", "-s")
    assert done.code == 1, done.output
    assert "'numpy'" in done.output
    assert "asked the network for: [('a', 1)]" in done.output


# --- the clone's own code ------------------------------------------------------------------------


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    """An installed claimlens whose plugins break every run that loads them."""
    site = tmp_path / "poisoned"
    names = ("claimlens.fixtures.plugin", "claimlens.ci.plugin")
    for name in names:
        module = site.joinpath(*name.split(".")).with_suffix(".py")
        module.parent.mkdir(parents=True)
        module.write_text("raise RuntimeError('the installed plugin ran')\n")
    info = site / "claimlens-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: claimlens\nVersion: 9\n")
    entries = "\n".join(f"{name} = {name}" for name in names)
    (info / "entry_points.txt").write_text(f"[pytest11]\n{entries}\n")
    return site


def test_in_a_clone_the_clones_code_runs(poisoned: Path, tmp_path: Path) -> None:
    (tmp_path / "watch.py").write_text(WATCH)
    done = run_pytest(ROOT, "-p", "watch", "--markers", path=[poisoned, tmp_path])
    assert done.code == 0, done.output
    assert "@pytest.mark.claim(id, kind" in done.output
    assert f"plugin: {ROOT / 'fixtures' / 'plugin.py'}" in done.output


def test_outside_a_clone_what_is_installed_runs(poisoned: Path, run_claims: RunClaims) -> None:
    done = run_claims({"test_plain.py": PLAIN}, site=poisoned)
    assert done.code != 0
    assert "the installed plugin ran" in done.output


# --- shape checks in these self-tests ------------------------------------------------------------


def test_a_wrong_shape_is_rejected() -> None:
    right, wrong = torch.zeros(2, 3, 4), torch.zeros(2, 12)
    assert margin_over_others(right, [Head(0, 1)]).shape == (2,)
    with pytest.raises(TypeCheckError):
        margin_over_others(wrong, [Head(0, 1)])


def test_shape_checks_refuse_to_come_too_late(tmp_path: Path) -> None:
    early = "def pytest_sessionstart():\n    import claimlens.circuits.parts\n"
    (tmp_path / "early.py").write_text(early)
    done = run_pytest(ROOT, "-p", "early", "ci", "--collect-only", "-q", path=[tmp_path])
    assert done.code != 0
    assert "imported before its shape checks" in done.output
