"""Which file builds which row."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from claimlens.ci.benchmarks.sweep import Build


def builds() -> dict[str, Build]:
    """How each row's sweep is built, gathered from the files that measure rows."""
    found: dict[str, Build] = {}
    for file in sorted(Path(__file__).parent.glob("bench_*.py")):
        module = import_module(f"claimlens.ci.benchmarks.{file.stem}")
        found |= getattr(module, "SWEEPS", {})
    return found


def build_of(row: str) -> Build:
    """The build of one row; raises ValueError for a row that no file has."""
    known = builds()
    if row not in known:
        raise ValueError(f"no row {row!r}; there are {', '.join(known)}")
    return known[row]
