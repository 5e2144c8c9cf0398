"""Every head that a claim was tried with, as its page shows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claimlens.ci.figures.words import MINUS
from claimlens.ci.report.claim_page import sections
from claimlens.ci.report.head_table import HeadCell, HeadTable
from claimlens.ci.report.names import page_of
from claimlens.ci.report.study import Study
from claimlens.ci.selftests.records import comparison
from claimlens.ci.selftests.report_samples import Page, finding, run, written

VALUES = {"L1H0": 0.8, "L1H2": 0.2, "L2H1": -0.4}


def tried(head: str | None = "L1H0", **changes: Any) -> Any:
    return finding(head=head, **{"head_values": VALUES, **changes})


def cells(*records: Any) -> dict[str, HeadCell]:
    table = HeadTable.of(records)
    assert table is not None
    return {f"L{n}H{i}": cell for n, row in enumerate(table.rows) for i, cell in enumerate(row)}


def test_each_head_stands_in_its_layer_with_its_value() -> None:
    found = cells(tried())
    assert len(found) == 3 * 3
    assert {head: cell.text for head, cell in found.items() if cell.text} == {
        "L1H0": "0.8", "L1H2": "0.2", "L2H1": f"{MINUS}0.4",
    }  # fmt: skip
    assert {head for head, cell in found.items() if cell.claimed} == {"L1H0"}
    assert found["L0H0"].hint == "L0H0: not tried"


@pytest.mark.parametrize(
    ("relation", "first", "last"), [(">=", "L1H0", "L2H1"), ("<=", "L2H1", "L1H0")]
)
def test_ranks_count_from_what_speaks_most_for_the_claim(
    relation: str, first: str, last: str
) -> None:
    found = cells(tried(comparisons=[replace(comparison(), relation=relation)]))
    assert found[first].hint.endswith("rank 1 of 3")
    assert found[last].hint.endswith("rank 3 of 3")


def test_colours_are_centred_at_zero() -> None:
    found = cells(tried())
    assert [found[head].color for head in VALUES] == ["p20", "p5", "m10"]
    assert found["L0H0"].color == ""


def test_heads_of_one_role_share_a_table(tmp_path: Path) -> None:
    both = (tried("L1H0"), tried("L2H2", head_values={"L2H2": 0.5, "L2H1": -0.4}))
    assert {h for h, cell in cells(*both).items() if cell.claimed} == {"L1H0", "L2H2"}
    tables = [s.heads for s in sections(Study.of([run(*both)]), "ioi/x")]
    assert [table is None for table in tables] == [False, True]
    page = Page((written(tmp_path, run(*both)) / page_of("ioi/x")).read_text())
    assert ("title", "L1H0: 0.8 probability, rank 1 of 4") in page.attributes
    assert ("class", "p20 own") in page.attributes


@pytest.mark.parametrize(
    "record",
    [
        tried(None, head_values={}),
        tried(head_values={"L1H0": 0.8}),
        tried(comparisons=[]),
        tried(head_values={"<b>": 0.8, "L9999H0": 1.0}),
    ],
)
def test_where_no_other_head_was_tried_there_is_none(record: Any) -> None:
    assert HeadTable.of([record]) is None


def test_zeros_have_no_colour() -> None:
    assert cells(tried(head_values={"L0H0": 0.0, "L1H0": 0.0}))["L0H0"].color == ""
