"""Every `raise` whose message may reach a user, read from the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("circuits", "fixtures", "ci")
OWN = ("ci/selftests", "ci/benchmarks", "ci/faults", "ci/pictures")


@dataclass(frozen=True)
class Site:
    """One `raise`: its file, the function around it, the exception, its place among the like."""

    file: str
    function: str
    exception: str
    nth: int
    lines: tuple[int, int]

    def __str__(self) -> str:
        tail = f" #{self.nth}" if self.nth > 1 else ""
        return f"{self.file} {self.function} {self.exception}{tail}"


def sites(root: Path = ROOT) -> list[Site]:
    """The sites of every package under `root`, tests and benchmarks left out."""
    files = (file for top in PACKAGES for file in sorted((root / top).rglob("*.py")))
    named = ((file, file.relative_to(root).as_posix()) for file in files)
    return [
        site
        for file, name in named
        if not name.startswith(OWN)
        for site in of_source(name, file.read_text(encoding="utf-8"))
    ]


def of_source(name: str, source: str) -> list[Site]:
    """The sites of one file; a bare `raise` hands on what was raised elsewhere."""
    found: list[Site] = []
    seen: dict[tuple[str, str], int] = {}
    for function, node in sorted(_raises(ast.parse(source)), key=lambda one: one[1].lineno):
        exception = _name(node)
        nth = seen[function, exception] = seen.get((function, exception), 0) + 1
        lines = (node.lineno, node.end_lineno or node.lineno)
        found.append(Site(name, function, exception, nth, lines))
    return found


def _raises(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.Raise]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from _raises(node, f"{inside}.{node.name}".lstrip("."))
        elif isinstance(node, ast.Raise) and node.exc is not None:
            yield inside or "<module>", node
        else:
            yield from _raises(node, inside)


def _name(node: ast.Raise) -> str:
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    return ast.unparse(raised) if raised is not None else ""
