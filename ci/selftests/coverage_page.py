"""docs/coverage.md: which analysis is which function, which claim, which test, and on which models.

Written anew from `coverage/*.toml` and the truth table, whose every cell test_truth measures:

    python -m claimlens.ci.selftests.coverage_page
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from claimlens.ci.selftests.truth_table import Cells, cells
from claimlens.circuits.parts import Head
from claimlens.fixtures.roles import known_roles

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "coverage.md"
FAMILIES = Path(__file__).with_name("coverage")
ANALYSES = 38
SHOWN = ("default", "planted")


@dataclass
class Row:
    """One analysis: what measures it, what claims it, what tests it."""

    number: int
    analysis: str = ""
    functions: list[str] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)


def rows(folder: Path = FAMILIES) -> list[Row]:
    """The rows of every family, those of one number put together."""
    found: dict[int, Row] = {}
    for file in sorted(folder.glob("*.toml")):
        for given in tomllib.loads(file.read_text(encoding="utf-8")).get("row", []):
            row = found.setdefault(given["number"], Row(given["number"]))
            row.analysis = row.analysis or given.get("analysis", "")
            for name in ("functions", "claims", "tests"):
                mine = getattr(row, name)
                mine.extend(item for item in given.get(name, []) if item not in mine)
    return [found[number] for number in sorted(found)]


def claims_of_the_suite() -> dict[str, str]:
    """The ids of all claims, read from the markers, with the role of which each head is tested.

    The role is empty where a claim is one test per model.
    """
    files = (ROOT / "claims").rglob("test_*.py")
    return dict(found for file in files for found in _marked(file.read_text(encoding="utf-8")))


def _marked(source: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef):
            continue
        marks = {
            ast.unparse(call.func): str(call.args[0].value)
            for call in node.decorator_list
            if isinstance(call, ast.Call) and isinstance(call.args[0], ast.Constant)
        }
        if claim := marks.get("pytest.mark.claim"):
            each = "head" in {argument.arg for argument in node.args.args}
            yield claim, marks.get("pytest.mark.role", "") if each else ""


def page(found: list[Row], truth: Cells) -> str:
    """The whole page."""
    return "\n".join([*_HEAD, *(_line(row, truth) for row in found), "", *_real_size()])


def _line(row: Row, truth: Cells) -> str:
    claims = "<br>".join(f"`{claim}`: {_verdicts(claim, truth)}" for claim in row.claims)
    functions = "<br>".join(f"`{name.removeprefix('claimlens.')}`" for name in row.functions)
    tests = "<br>".join(f"`{test.removeprefix('ci/selftests/')}`" for test in row.tests)
    return f"| {row.number} | {row.analysis} | {functions} | {claims} | {tests} |"


def _verdicts(claim: str, truth: Cells) -> str:
    """`default holds, planted refuted`; of several heads, every verdict that one of them has."""
    role = claims_of_the_suite()[claim]
    words = {m: verdict(claim, truth[m], known_roles(m).get(role)) for m in SHOWN}
    return ", ".join(f"{model} {word}" for model, word in words.items())


def verdict(claim: str, known: dict[str, dict[str, str]], heads: Sequence[Head]) -> str:
    """What a model's table says of a claim; of each of the `heads` that it is tested on."""
    if claim in known or not heads:
        return known[claim]["verdict"] if claim in known else "holds"
    cells = (known.get(f"{claim} {head}", {"verdict": "holds"}) for head in heads)
    return "/".join(sorted({cell["verdict"] for cell in cells}))


def _real_size() -> list[str]:
    """What the suite costs, as real_size.py measured it."""
    return [(FAMILIES / "real_size.md").read_text(encoding="utf-8")]


_HEAD = """# Coverage

Every analysis of the four research notebooks that claimlens was made for, and of the papers behind
them: the function that measures it, the claims that assert it with their verdicts on the models
that are shipped, and the self-tests that compare it with a plain twin, with its endpoints, with
TransformerLens where it has the same function, and that see it go red. "not applicable" has its
reason in `ci/selftests/truth`. Written by `python -m claimlens.ci.selftests.coverage_page`.

| | analysis | function | claim and verdicts | tests |
|---|---|---|---|---|""".splitlines()


if __name__ == "__main__":
    PAGE.write_text(page(rows(), cells()), encoding="utf-8")
