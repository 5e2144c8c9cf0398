"""The circuit on a claim's page."""

from __future__ import annotations

from pathlib import Path

from claimlens.ci.report.circuit import circuit, players
from claimlens.ci.report.names import page_of
from claimlens.ci.report.pages import write_report
from claimlens.ci.report.study import Study
from claimlens.ci.selftests.report_samples import Page, finding, run, written

MOVERS = [finding("ioi/movers", head=h, role="ioi/name_mover") for h in ("L2H0", "L3H5")]
TURNED = finding("ioi/turned", head="L1H0", role="ioi/s_inhibition")


def test_heads_are_those_that_any_claim_names() -> None:
    again = finding("ioi/again", head="L2H0", role="ioi/name_mover")
    other = finding("ioi/movers", "planted", head="L1H1", role="ioi/name_mover")
    found = players(Study.of([run(*MOVERS, TURNED, again, other)]))
    assert found == {
        "default": {"ioi/name_mover": ["L2H0", "L3H5"], "ioi/s_inhibition": ["L1H0"]},
        "planted": {"ioi/name_mover": ["L1H1"]},
    }


def test_a_page_shows_it_with_the_claimed_heads(tmp_path: Path) -> None:
    folder = written(tmp_path, run(*MOVERS, TURNED))
    page = Page((folder / page_of("ioi/movers")).read_text())
    for told in ("name mover", "S-inhibition", "L1H0", "L2H0", "L3H5"):
        assert told in page.text, told


def test_a_claim_about_no_role_or_an_unknown_one_has_none() -> None:
    for role in (None, "mine/own"):
        study = Study.of([run(finding(head="L1H1", role=role))])
        assert circuit(study.now["ioi/x"]["default"], {}) is None


def test_a_head_that_another_claim_finds_changes_the_page(tmp_path: Path) -> None:
    written(tmp_path, run(*MOVERS))
    assert write_report(tmp_path, Study.of([run(*MOVERS)]), {}).written == 0
    before = (tmp_path / page_of("ioi/movers")).read_text()
    write_report(tmp_path, Study.of([run(*MOVERS, TURNED)]), {})
    assert (tmp_path / page_of("ioi/movers")).read_text() != before
