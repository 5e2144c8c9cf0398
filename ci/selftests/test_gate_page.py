"""The page that compares a model with its baseline."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from claimlens.ci.baseline import Baseline, accepted, environment_of
from claimlens.ci.gate import FOLLOWS, Decision, Finding
from claimlens.ci.gate_run import Result
from claimlens.ci.report.change_picture import LEFT, RIGHT, ChangePicture
from claimlens.ci.report.compared import compared
from claimlens.ci.report.gate_page import OUTCOME_SIGNS, comparisons, sentence
from claimlens.ci.report.move_picture import MovePicture, place
from claimlens.ci.report.pages import write_report
from claimlens.ci.report.study import Study
from claimlens.ci.run_files import StoredRun
from claimlens.ci.selftests.records import comparison
from claimlens.ci.selftests.report_samples import Page, finding, run
from claimlens.circuits.parts import Head
from claimlens.circuits.record import ClaimRecord, packed

N = 20
TEXT = "<script>x</script>"


def at(mean: float, verdict: str, revision: str, claim: str = "ioi/x", **changes: Any) -> Any:
    """A claim `>= 0.3` whose values lie around a mean."""
    values = mean + 0.05 * np.random.default_rng(0).normal(size=N)
    held = replace(comparison(float(values.mean())), prompts="p", values=packed(values))
    return finding(
        claim, revision=revision, verdict=verdict, comparisons=[held], figures=[], **changes
    )


def baseline(*records: ClaimRecord, run: str = "20260101T000000Z-00000001") -> dict[str, Baseline]:
    claims = {r.key: accepted(r, "2026-01-01", "first") for r in records}
    known = environment_of(records[0].model)
    return {"default": Baseline("default", "r1", run, known, ["claims"], claims)}


def study(*runs: StoredRun) -> Study:
    return Study.of(runs)


HELD = at(0.9, "holds", "r1")
BROKEN = at(0.1, "refuted", "r2", reason=TEXT)


def test_a_finding_that_fell_is_broken() -> None:
    (result,) = compared(study(run(HELD), run(BROKEN, number=2)), baseline(HELD))
    assert result.decision is Decision.REFUSED
    assert (result.old, result.new) == ("r1", "r2")
    (found,) = result.findings
    assert found.outcome == "broken"
    assert found.changes[0].difference == pytest.approx(-0.8)


def test_without_the_accepted_models_values_it_is_unclear() -> None:
    (result,) = compared(study(run(BROKEN, number=2)), baseline(HELD))
    assert result.decision is Decision.UNCLEAR
    assert not result.findings[0].changes


def test_the_accepted_model_itself_is_not_compared() -> None:
    assert compared(study(run(BROKEN), run(HELD, number=2)), baseline(HELD)) == []
    assert compared(study(run(HELD)), {}) == []


def test_another_environment_is_said() -> None:
    other = replace(BROKEN, model={**BROKEN.model, "dtype": "bfloat16"})
    (result,) = compared(study(run(HELD), run(other, number=2)), baseline(HELD))
    assert "dtype was float32, is bfloat16" in sentence(result)


def test_values_of_another_run_stand_in_for_the_baselines_own() -> None:
    runs = (run(HELD, number=3), run(BROKEN, number=4))
    (result,) = compared(study(*runs), baseline(HELD, run="gone"))
    assert result.findings[0].outcome == "broken"


def test_a_role_that_moved_is_found_where_other_heads_were_tried() -> None:
    lost = at(0.1, "refuted", "r2", head="L1H1")
    there = at(0.9, "holds", "r2", head="L2H3", role="ioi/mover")
    tried = replace(there, model={**there.model, "name": "default:candidates"})
    held = replace(HELD, head="L1H1")
    runs = (run(held), run(tried, number=2), run(lost, number=3))
    (result,) = compared(study(*runs), baseline(held))
    assert [(f.outcome, f.there) for f in result.findings] == [("moved", "L2H3")]
    (shown,) = comparisons(study(*runs), [result])
    assert shown.moves is not None
    assert [arrow.told for arrow in shown.moves.arrows] == ["ioi/x: L1H1 to L2H3"]
    of_another = replace(tried, model={**tried.model, "revision": "r0"})
    runs = (run(held), run(of_another, number=2), run(lost, number=3))
    assert compared(study(*runs), baseline(held))[0].findings[0].outcome == "broken"


def test_the_page_says_it_the_gravest_first(tmp_path: Path) -> None:
    fine, same = at(0.9, "holds", "r2", "ioi/a"), at(0.9, "holds", "r1", "ioi/a")
    near, open_ = (
        at(0.3, "undecided", "r2", "ioi/n", reason=TEXT),
        at(0.9, "holds", "r1", "ioi/n"),
    )
    runs = (run(HELD, same, open_), run(fine, near, BROKEN, number=2))
    write_report(tmp_path, Study.of(runs), baseline(HELD, same, open_))
    page = Page((tmp_path / "gate.html").read_text())
    for told in (
        "default: REFUSED", "✗ 1 broken, ? 1 unclear, = 1 unchanged", "holds, now refuted", TEXT,
        f"to_io >= 0.3: {HELD.comparisons[0].value:.4g} to", "1 as they were",
    ):  # fmt: skip
        assert told in page.text, told
    assert "script" not in page.tags
    assert page.text.index("broken") < page.text.index("unchanged")
    first = Page((tmp_path / "index.html").read_text())
    assert "default: REFUSED, 1 broken, 1 unclear, 1 unchanged" in first.text
    assert ("href", "gate.html") in first.attributes
    markdown = (tmp_path / "report.md").read_text()
    assert markdown.startswith(
        "# default: REFUSED, 1 broken, 1 unclear, 1 unchanged\n\n- **broken** ioi/x"
    )
    (told,) = json.loads((tmp_path / "report.json").read_text())["compared"]
    assert (told["decision"], told["findings"][0]["outcome"]) == ("refused", "broken")


def test_a_page_that_compares_nothing_any_more_is_removed(tmp_path: Path) -> None:
    runs = (run(HELD), run(BROKEN, number=2))
    write_report(tmp_path, Study.of(runs), baseline(HELD))
    assert (tmp_path / "gate.html").exists()
    write_report(tmp_path, Study.of(runs), {})
    assert not (tmp_path / "gate.html").exists()
    assert "gate.html" not in (tmp_path / "index.html").read_text()


def test_an_interval_without_an_end_is_json(tmp_path: Path) -> None:
    alone = run(HELD).prompts["p"]
    one = replace(alone, templates=["t"] * N)
    runs = [replace(r, prompts={"p": one}) for r in (run(HELD), run(BROKEN, number=2))]
    write_report(tmp_path, Study.of(runs), baseline(HELD))
    (told,) = json.loads((tmp_path / "report.json").read_text())["compared"]
    assert told["findings"][0]["changes"][0]["low"] is None


@pytest.mark.parametrize("relation", [">=", "<="])
@pytest.mark.parametrize(("old", "new", "threshold"), [(4, 2, 3), (1, 1, 1), (-2, 8, 0.5)])
def test_the_picture_of_a_change_is_to_scale(
    old: float, new: float, threshold: float, relation: str
) -> None:
    p = ChangePicture.of(old, new, threshold, relation)
    assert LEFT < min(p.old, p.new, p.threshold) <= max(p.old, p.new, p.threshold) < RIGHT
    if old != threshold:
        share = (p.new - p.threshold) / (p.old - p.threshold)
        assert share == pytest.approx((new - threshold) / (old - threshold), abs=0.01)
    holds = p.side[0] <= p.new <= sum(p.side)
    assert holds == (new >= threshold if relation == ">=" else new <= threshold)


def test_what_is_drawn_is_what_was_measured(tmp_path: Path) -> None:
    runs = (run(HELD), run(BROKEN, number=2))
    write_report(tmp_path, Study.of(runs), baseline(HELD))
    text = (tmp_path / "gate.html").read_text()
    (svg,) = re.findall(r'<svg class="change".*?</svg>', text, re.DOTALL)
    root = ElementTree.fromstring(svg)
    dots = {dot.get("class"): float(dot.get("cx") or "nan") for dot in root.iter("circle")}
    line = float(next(root.iter("line")).get("x1") or "nan")
    assert (dots["now"] - line) / (dots["then"] - line) == pytest.approx(
        (0.1 - 0.3) / (0.9 - 0.3), abs=0.1
    )


def test_moves_are_drawn_on_the_models_grid() -> None:
    picture = MovePicture.of([("ioi/mover", "L1H0", "L2H3")], ["L4H5"])
    assert picture is not None
    assert (len(picture.rows), len(picture.columns)) == (5, 6)
    (arrow,) = picture.arrows
    assert arrow.start == place(Head(1, 0))
    x, y = place(Head(2, 3))
    assert 0 < np.hypot(arrow.end[0] - x, arrow.end[1] - y) < 10


@pytest.mark.parametrize("head", [TEXT, "", "L1", "L99999H0"])
def test_what_is_no_head_is_not_drawn(head: str) -> None:
    assert MovePicture.of([("role", "L1H0", head)], ["L0H0"]) is None
    assert MovePicture.of([("role", "L1H0", "L1H1")], [head]) is not None


def test_every_outcome_has_a_sign_of_its_own() -> None:
    assert set(OUTCOME_SIGNS) == set(FOLLOWS)
    assert len(set(OUTCOME_SIGNS.values())) == len(OUTCOME_SIGNS)


def test_many_findings_are_counted_not_listed() -> None:
    many = tuple(Finding(f"x/{n}", "unchanged", "holds", "holds") for n in range(3000))
    result = Result("default", Decision.ACCEPTED, many, "", "r1", "r2")
    (shown,) = comparisons(study(run(HELD)), [result])
    assert (len(shown.same), shown.left_out) == (2000, 1000)
