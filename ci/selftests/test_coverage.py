"""docs/coverage.md is what the repository says today, and no analysis has lost its claim."""

from __future__ import annotations

import ast
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from claimlens.ci.selftests.coverage_page import (
    ANALYSES,
    PAGE,
    ROOT,
    Row,
    claims_of_the_suite,
    page,
    rows,
    verdict,
)
from claimlens.ci.selftests.truth_table import cells
from claimlens.circuits.parts import Head


def faults(found: list[Row]) -> list[str]:
    """What is missing from the rows, or named there and does not exist."""
    lost = sorted(set(range(1, ANALYSES + 1)) - {row.number for row in found})
    told = [f"analysis {number} has no row" for number in lost]
    known = claims_of_the_suite()
    for row in found:
        for part in ("analysis", "functions", "claims", "tests"):
            if not getattr(row, part):
                told.append(f"analysis {row.number} has no {part}")
        told += [f"{row.number}: no claim {c}" for c in row.claims if c not in known]
        told += [f"{row.number}: no function {f}" for f in row.functions if not exists(f)]
        told += [f"{row.number}: no test {t}" for t in row.tests if not has_test(t)]
    return told


def exists(name: str) -> bool:
    """Whether a dotted name is a module's public member."""
    module, _, member = name.rpartition(".")
    try:
        return hasattr(import_module(module), member) and not member.startswith("_")
    except ModuleNotFoundError:
        return False


def has_test(name: str) -> bool:
    """Whether `path::test_name` is a test function of a file."""
    path, _, test = name.partition("::")
    if not test or not (ROOT / path).is_file():
        return False
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return test.partition("[")[0] in names


def test_every_analysis_has_a_function_a_claim_and_a_test() -> None:
    assert faults(rows()) == []


def test_the_page_is_what_the_repository_says() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == page(rows(), cells()), "run python -m claimlens.ci.selftests.coverage_page"


def test_no_claim_of_the_suite_is_forgotten() -> None:
    named = {claim for row in rows() for claim in row.claims}
    assert sorted(set(claims_of_the_suite()) - named) == []


GOOD = Row(
    1,
    "An analysis",
    ["claimlens.circuits.metrics.logit_diff"],
    ["ioi/logit-diff"],
    ["ci/selftests/test_coverage.py::test_a_row_that_lost_something_is_found"],
)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"claims": []}, "analysis 1 has no claims"),
        ({"claims": ["ioi/gone"]}, "1: no claim ioi/gone"),
        ({"functions": []}, "analysis 1 has no functions"),
        ({"functions": ["claimlens.circuits.metrics.gone"]}, "1: no function"),
        ({"functions": ["claimlens.circuits.gone.gone"]}, "1: no function"),
        ({"tests": []}, "analysis 1 has no tests"),
        ({"tests": ["ci/selftests/test_coverage.py::test_gone"]}, "1: no test"),
        ({"tests": ["ci/selftests/test_gone.py::test_gone"]}, "1: no test"),
        ({"analysis": ""}, "analysis 1 has no analysis"),
        ({"number": 2}, "analysis 1 has no row"),
    ],
)
def test_a_row_that_lost_something_is_found(change: dict[str, object], told: str) -> None:
    row = Row(**{**vars(GOOD), **change})
    assert any(fault.startswith(told) for fault in faults([row]))
    assert not any(fault.startswith(told) for fault in faults([GOOD]))


def test_rows_of_one_number_are_put_together(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[[row]]\nnumber = 3\nanalysis = "x"\nclaims = ["a/b"]\n')
    (tmp_path / "b.toml").write_text('[[row]]\nnumber = 3\nclaims = ["a/b", "c/d"]\n')
    (row,) = rows(tmp_path)
    assert (row.analysis, row.claims) == ("x", ["a/b", "c/d"])
    assert tomllib.loads((tmp_path / "a.toml").read_text())["row"]


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ({}, "holds"),
        ({"ioi/x": "refuted"}, "refuted"),
        ({"ioi/x L1H0": "refuted"}, "holds/refuted"),
        ({"ioi/x L1H0": "refuted", "ioi/x L1H1": "refuted"}, "refuted"),
        ({"ioi/x L1H0": "refuted", "ioi/x L1H1": "not applicable"}, "not applicable/refuted"),
        ({"ioi/xx": "refuted"}, "holds"),
    ],
)
def test_a_claim_holds_only_where_a_head_is_left_that_it_holds_for(
    listed: dict[str, str], said: str
) -> None:
    table = {name: {"verdict": word} for name, word in listed.items()}
    assert verdict("ioi/x", table, [Head(1, 0), Head(1, 1)]) == said


def test_a_claim_of_each_head_is_told_from_one_of_all_heads() -> None:
    known = claims_of_the_suite()
    assert known["ioi/name-movers-raise-io"] == "ioi/name_mover"
    assert known["ioi/name-movers-are-the-top-by-path"] == ""
