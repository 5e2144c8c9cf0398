"""What claimlens finds where it runs: each thing that it needs, and how to mend what is amiss."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from claimlens.ci.run_files import NoRun, read_run, run_files

State = Literal["ok", "warning", "fault"]
FAULT: State = "fault"
PYTHON = ((3, 11), (3, 14))
"""The first Python that will do, and the first that won't."""
PARTS = ("fixtures", "ci")
"""What has a plugin for pytest."""
EXTRAS = {"xdist": "claims on several processors (-n)", "resvg_py": "figures as PNG"}
ROOM = 1 << 30
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, and how to mend it."""

    state: State
    what: str
    told: str
    mend: str = ""


def examined(store: Path) -> Iterator[Finding]:
    """All of it; nothing is written and no network is asked."""
    yield python(sys.version_info[:2])
    yield from dependencies()
    yield from torch_build()
    yield threads(os.environ)
    yield plugins()
    yield from extras()
    yield hub(os.environ)
    yield writable(store)
    yield from damaged(store)
    yield room(store, shutil.disk_usage(_there(store)).free)


def python(found: tuple[int, ...]) -> Finding:
    """The interpreter."""
    if PYTHON[0] <= found < PYTHON[1]:
        return Finding("ok", "Python", platform.python_version())
    told = ".".join(map(str, found))
    return Finding("fault", "Python", told, "claimlens needs 3.11, 3.12 or 3.13")


def dependencies() -> Iterator[Finding]:
    """The packages that claimlens says it needs."""
    try:
        needed = requires("claimlens") or []
    except PackageNotFoundError:
        needed = _of_clone()
    for text in needed:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield dependency(requirement)


def _of_clone() -> list[str]:
    """The dependencies of a clone, which is not installed."""
    import tomllib

    path = Path(__file__).resolve().parents[1] / "pyproject.toml"
    found: list[str] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["dependencies"]
    return found


def dependency(requirement: Requirement) -> Finding:
    """A package, in the range that is known to work."""
    install = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return Finding("fault", requirement.name, "not installed", install)
    if requirement.specifier.contains(found, prereleases=True):
        return Finding("ok", requirement.name, found)
    told = f"{found}, expected {requirement.specifier}"
    return Finding("fault", requirement.name, told, install)


def torch_build() -> Iterator[Finding]:
    """What torch computes on."""
    if not find_spec("torch"):
        return
    import torch

    yield Finding("ok", "torch threads", str(torch.get_num_threads()))
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    names += ["mps"] if torch.backends.mps.is_available() else []
    yield Finding("ok", "devices", ", ".join(["cpu", *names]))


def threads(environment: Mapping[str, str]) -> Finding:
    """How many threads a small model is to use."""
    given = environment.get("OMP_NUM_THREADS", "")
    if given:
        return Finding("ok", "OMP_NUM_THREADS", given)
    mend = "1 is fastest for small models, all cores for a large one: export OMP_NUM_THREADS=1"
    return Finding("warning", "OMP_NUM_THREADS", "not set", mend)


def plugins() -> Finding:
    """Whether pytest finds claimlens."""
    wanted = {f"claimlens.{part}.plugin" for part in PARTS}
    found = {entry.name for entry in entry_points(group="pytest11")}
    if wanted <= found:
        return Finding("ok", "plugins of pytest", "registered")
    if (Path.cwd() / "conftest.py").is_file() and (Path.cwd() / "ci" / "plugin.py").is_file():
        return Finding("ok", "plugins of pytest", "registered by the clone's conftest.py")
    lacking = ", ".join(sorted(wanted - found))
    mend = "install the wheel, or stand in the clone"
    return Finding("fault", "plugins of pytest", f"{lacking} not registered", mend)


def extras() -> Iterator[Finding]:
    """Packages that only some things need."""
    for name, purpose in EXTRAS.items():
        there = find_spec(name) is not None
        yield Finding("ok", name, f"{'there' if there else 'not there'}, for {purpose}")


def hub(environment: Mapping[str, str]) -> Finding:
    """Where models from a hub are kept, and whether it may be asked."""
    home = environment.get("HF_HUB_CACHE") or environment.get("HF_HOME")
    cache = home or str(Path("~/.cache/huggingface"))
    offline = [name for name in OFFLINE if environment.get(name)]
    told = f"cache {cache}" + (f", {offline[0]} is set: no model is fetched" if offline else "")
    return Finding("ok", "hub", told)


def writable(store: Path) -> Finding:
    """Whether runs can be kept."""
    if os.access(_there(store), os.W_OK):
        return Finding("ok", "store", f"{store} can be written")
    mend = "change its permissions, or name another with --claims-store"
    return Finding("fault", "store", f"{store} cannot be written", mend)


def damaged(store: Path) -> Iterator[Finding]:
    """Run files that cannot be read."""
    for path in run_files(store):
        try:
            read_run(path)
        except NoRun as error:
            yield Finding("warning", "run", str(error))


def room(store: Path, free: int) -> Finding:
    """The disk under the store."""
    told = f"{free / ROOM:.1f} GiB free at {store}"
    if free >= ROOM:
        return Finding("ok", "disk", told)
    return Finding("warning", "disk", told, "make room, or name another folder with --claims-store")


def _there(path: Path) -> Path:
    """The nearest folder that exists."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir())
