"""The claims that a pytest would run, without running them; a plugin of that pytest, too."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from claimlens.ci.commands.options import BadRequest

FILE = "--claims-collected"
NOTHING = 5
"""pytest's exit code where it collected nothing."""


@dataclass(frozen=True)
class Listed:
    """A claim as its marker and its docstring say it."""

    id: str
    kind: str
    statement: str
    source: str
    role: str
    test: str


def collect(arguments: Sequence[str]) -> list[Listed]:
    """The claims that these arguments of pytest name, by id. Raises BadRequest."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "claims.json"
        command = [sys.executable, "-m", "pytest", "-p", __name__, "--collect-only", "-q"]
        done = subprocess.run(
            [*command, f"{FILE}={told}", *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, NOTHING) or not told.exists():
            last = (done.stdout + done.stderr).strip().splitlines()[-8:]
            raise BadRequest("pytest could not collect the claims:\n" + "\n".join(last))
        found = {each["id"]: Listed(**each) for each in json.loads(told.read_text())}
    return [found[id] for id in sorted(found)]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the claims are written to."""
    parser.addoption(FILE, type=Path)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write them."""
    found = [asdict(each) for item in session.items for each in _listed(item)]
    session.config.getoption("claims_collected").write_text(json.dumps(found))


def _listed(item: pytest.Item) -> Iterator[Listed]:
    mark, role = item.get_closest_marker("claim"), item.get_closest_marker("role")
    if mark is None:
        return
    given = mark.kwargs
    function: Any = getattr(item, "function", None)
    yield Listed(
        str(mark.args[0]),
        str(given.get("kind", "")),
        " ".join((function.__doc__ or "").split("\n\n")[0].split()),
        str(given.get("finding") or given.get("source") or ""),
        str(role.args[0]) if role and role.args else "",
        item.nodeid.partition("[")[0],
    )
