"""Shape checks at run time for every self-test, and pytest in processes of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from jaxtyping import install_import_hook
from playwright.sync_api import Browser

from claimlens.ci.selftests.browser import HOW, chromium, started
from claimlens.ci.selftests.processes import OWN_PLUGINS, ROOT, Finished, RunClaims, run_pytest

# verdict.py is left out: it answers wrong shapes itself, and its tests hand it some
CHECKED = (
    "claimlens.circuits.engine",
    "claimlens.circuits.kernels",
    "claimlens.circuits.metrics",
    "claimlens.circuits.parts",
    "claimlens.fixtures",
)
# an int where a float is expected is no fault
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Check shapes at every call into claimlens; it works on modules imported from here on."""
    if "claimlens.circuits.parts" in sys.modules:
        raise pytest.UsageError(
            "claimlens was imported before its shape checks; run `pytest ci/selftests`"
        )
    install_import_hook(list(CHECKED), CHECKER)


@pytest.fixture(scope="session")
def clone_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which `claimlens` is the clone."""
    site = tmp_path_factory.mktemp("site")
    (site / "claimlens").symlink_to(ROOT)
    return site


@pytest.fixture(scope="session")
def found_by_all(clone_site: Path) -> Iterator[None]:
    """`claimlens` is the clone in every process that these tests start, whoever starts it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(clone_site)
        patch.setenv("PYTHONPATH", str(clone_site), prepend=os.pathsep)
        yield


@pytest.fixture
def run_claims(tmp_path: Path, clone_site: Path) -> RunClaims:
    """`run_claims({"test_x.py": text}, "-k", "x")`: pytest in a process and a folder of its own.

    It runs the clone's code and plugins; with `site`, whatever is installed in that folder, whose
    plugins pytest then has to find by itself.
    """

    def run(files: Mapping[str, str], *options: str, site: Path | None = None) -> Finished:
        folder = tmp_path / "own"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        plugins = () if site else OWN_PLUGINS
        return run_pytest(folder, *plugins, *options, path=[site or clone_site, folder])

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a module, which are skipped where there is none."""
    if chromium() is None:
        pytest.skip(HOW)
    with started() as found:
        yield found
