"""Every head that a claim was tried with, as its page draws it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claimlens.ci.report.claim_page import sections
from claimlens.ci.report.heads import heads_drawn
from claimlens.ci.report.names import page_of
from claimlens.ci.report.study import Study
from claimlens.ci.selftests.heatmap_cells import cells_of
from claimlens.ci.selftests.records import comparison
from claimlens.ci.selftests.report_samples import Page, finding, run, written

VALUES = {"L1H0": 0.8, "L1H2": 0.2, "L2H1": -0.4}


def tried(head: str | None = "L1H0", **changes: Any) -> Any:
    return finding(head=head, **{"head_values": VALUES, **changes})


def hints(*records: Any) -> dict[tuple[int, int], str]:
    drawing = heads_drawn(records, "heads")
    assert drawing is not None
    return {place: cell.hint for place, cell in cells_of(drawing).items()}


def test_each_head_stands_in_its_layer_with_its_value_and_rank() -> None:
    found = hints(tried())
    assert len(found) == 3 * 3
    assert found[1, 0] == "layer 1, head 0: 0.8, rank 1 of 3, claimed"
    assert found[0, 0] == "layer 0, head 0: not tried"


@pytest.mark.parametrize(("relation", "rank"), [(">=", 3), ("<=", 1)])
def test_ranks_count_from_what_speaks_most_for_the_claim(relation: str, rank: int) -> None:
    found = hints(tried(comparisons=[replace(comparison(), relation=relation)]))
    assert found[2, 1].endswith(f"rank {rank} of 3")


def test_heads_of_one_role_share_a_map(tmp_path: Path) -> None:
    both = (tried("L1H0"), tried("L2H2", head_values={"L2H2": 0.5, "L2H1": -0.4}))
    claimed = [place for place, hint in hints(*both).items() if hint.endswith("claimed")]
    assert claimed == [(1, 0), (2, 2)]
    drawn = [section.heads for section in sections(Study.of([run(*both)]), "ioi/x")]
    assert [each is None for each in drawn] == [False, True]
    page = Page((written(tmp_path, run(*both)) / page_of("ioi/x")).read_text())
    assert "layer 1, head 0: 0.8, rank 1 of 4, claimed" in page.text


@pytest.mark.parametrize(
    "record",
    [tried(None, head_values={}), tried(head_values={"L1H0": 0.8}), tried(comparisons=[])],
)
def test_where_no_other_head_was_tried_there_is_none(record: Any) -> None:
    assert heads_drawn([record], "heads") is None


@pytest.mark.parametrize("name", ["<b>", "L9999H0"])
def test_what_is_no_head_is_said_and_costs_no_page(name: str, tmp_path: Path) -> None:
    odd = tried(head_values={"L1H0": 0.8, name: 1.0})
    text = (written(tmp_path, run(odd)) / page_of("ioi/x")).read_text()
    assert "the heads cannot be drawn" in text
    assert "<b>" not in text.partition("<main>")[2].replace('<b aria-hidden="true">', "")
