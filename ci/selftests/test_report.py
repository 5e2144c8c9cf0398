"""The findings report: what stands on its pages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from claimlens.ci.baseline import Baseline, accepted
from claimlens.ci.outcomes import LETTERS
from claimlens.ci.report.cells import GRAVEST, SIGNS, Cell, margin
from claimlens.ci.report.interval import LEFT, RIGHT, IntervalPicture
from claimlens.ci.report.names import page_of
from claimlens.ci.report.overview import topics
from claimlens.ci.report.prompts import Spread
from claimlens.ci.report.published import published
from claimlens.ci.report.study import Result, Study
from claimlens.ci.selftests.records import comparison, record
from claimlens.ci.selftests.report_samples import N, Page, finding, run, written
from claimlens.circuits.findings import all_findings
from claimlens.circuits.record import WORDS, Word


def test_of_each_model_the_newest_revision_is_shown_and_the_others_are_its_history() -> None:
    old = run(finding(revision="r1"), finding("ioi/gone", revision="r1"), number=1)
    new = run(finding(verdict="refuted"), number=2)
    study = Study.of([old, new])
    assert list(study.now) == ["ioi/x"], "what was not run on the newest is not shown beside it"
    ((shown,),) = [models["default"] for models in study.now.values()]
    assert (shown.record.verdict, shown.revision) == ("refuted", "r2")
    assert [r.record.verdict for r in study.past(shown)] == ["holds", "refuted"]


def test_a_partial_run_of_the_same_revision_leaves_the_others_results() -> None:
    study = Study.of([run(finding("ioi/a"), finding("ioi/b")), run(finding("ioi/a"), number=2)])
    assert list(study.now) == ["ioi/a", "ioi/b"]
    assert study.now["ioi/a"]["default"][0].run.id.endswith("2")


def test_a_model_that_could_not_be_loaded_is_shown() -> None:
    lost = record(claim="ioi/x", verdict="not measured", model={"name": "gone"}, reason="no file")
    study = Study.of([run(finding()), run(replace(lost, comparisons=[]), number=2)])
    assert study.models == ("default", "gone")
    assert study.now["ioi/x"]["gone"][0].record.reason == "no file"


def test_what_the_gate_tried_on_other_heads_is_no_finding() -> None:
    assert Study.of([run(finding(model="default:candidates"))]).models == ()


@pytest.mark.parametrize("gravest", GRAVEST)
def test_a_cell_shows_the_gravest_verdict_of_its_heads(gravest: Word) -> None:
    lesser = GRAVEST[GRAVEST.index(gravest) :]
    heads = [finding(verdict=word, head=f"L1H{i}") for i, word in enumerate(lesser)]
    cell = Cell.of([Result(head, run()) for head in heads])
    assert cell.verdict == gravest
    assert cell.count == (f"1/{len(lesser)}" if len(lesser) > 1 else "")


def test_every_verdict_has_a_shape_and_a_colour_of_its_own() -> None:
    assert set(SIGNS) == set(WORDS) == set(LETTERS) == set(GRAVEST)
    assert len(set(SIGNS.values())) == len(WORDS)
    cells = [Cell.of([Result(finding(verdict=word), run())]) for word in WORDS]
    assert len({cell.style for cell in cells}) == len(WORDS)


def test_what_is_expected_is_outlined() -> None:
    def style(**changes: str) -> str:
        return Cell.of([Result(finding(**changes), run())]).style

    assert style(verdict="refuted") == "v1"
    assert style(verdict="refuted", expected="refuted") == "v1 asked"
    assert style(verdict="holds") == "v0"
    assert style(verdict="holds", expected="refuted") == "v0"


def test_a_change_since_the_baseline_is_said() -> None:
    before = finding(verdict="holds")
    baseline = Baseline("default", "r1", "x", {}, [], {before.key: accepted(before, "d", "r")})
    study = Study.of([run(finding(verdict="refuted"))])
    ((row,),) = [topic.rows for topic in topics(study, {"default": baseline})]
    assert [cell.was for cell in row.cells if cell] == ["holds"]
    ((same,),) = [topic.rows for topic in topics(Study.of([run(before)]), {"default": baseline})]
    assert [cell.was for cell in same.cells if cell] == [""]


def test_a_sentence_says_how_many_hold() -> None:
    found = [
        finding("ioi/a"),
        finding("ioi/b", verdict="refuted", expected="refuted"),
        finding("ioi/c", verdict="undecided"),
        finding("ioi/d", verdict="not applicable"),
    ]
    (topic,) = topics(Study.of([run(*found)]), {})
    assert topic.sentences == ["On default 1 of 3 hold; 1 refuted, as expected of it; 1 undecided."]


@pytest.mark.parametrize("relation", [">=", "<="])
def test_prompts_stand_weakest_first(relation: str) -> None:
    (compared,) = finding().comparisons
    spread = Spread.of(replace(compared, relation=relation), run())
    assert spread is not None
    values = [prompt.value for prompt in spread.prompts]
    assert values == sorted(values, reverse=relation == "<=")
    assert [p.value for p in spread.weakest] == values[:5]
    assert [p.value for p in spread.strongest] == values[:-6:-1]
    assert {p.text for p in spread.prompts} == {f"When {n} met" for n in range(N)}
    assert Spread.of(replace(compared, prompts="other"), run()) is None
    assert Spread.of(replace(compared, values=""), run()) is None


@pytest.mark.parametrize(
    ("relation", "value", "wanted"), [(">=", 0.41, 0.11), ("<=", 0.41, -0.11), ("<", 0.1, 0.2)]
)
def test_the_margin_counts_on_the_claimed_side(relation: str, value: float, wanted: float) -> None:
    assert margin(replace(comparison(value), relation=relation)) == pytest.approx(wanted)


@pytest.mark.parametrize("relation", [">=", "<"])
@pytest.mark.parametrize(("low", "value", "high"), [(0.32, 0.41, 0.5), (-2.0, 0.3, 9.0), (1, 1, 1)])
def test_the_picture_of_an_interval_is_to_scale(
    relation: str, low: float, value: float, high: float
) -> None:
    c = replace(comparison(value), relation=relation, low=low, high=high)
    p = IntervalPicture.of(c)
    places = {low: p.low, value: p.value, high: p.high, c.threshold: p.threshold}
    assert all(LEFT < place < RIGHT for place in places.values())
    (a, x), *others = sorted(places.items())
    b, y = others[-1]
    scale = (y - x) / (b - a)
    for at, place in places.items():
        assert place == pytest.approx(x + scale * (at - a), abs=0.02)
    start, width = p.side
    assert start + width == pytest.approx(RIGHT if relation == ">=" else p.threshold)


def test_a_page_of_a_claim_tells_all_of_it(tmp_path: Path) -> None:
    held = finding(head="L1H1")
    told = "It holds,\nand more.\n\nBut not all."
    broke = finding(
        head="L1H1", verdict="refuted", reason="it fell", rank=3, rank_of=18, statement=told
    )
    other = finding(model="planted", expected="refuted", verdict="refuted", caveat="fragile")
    folder = written(tmp_path, run(held), run(broke, other, number=2))
    page = Page((folder / page_of("ioi/x")).read_text())
    for told in (
        "It holds, and more.", "But not all.", "refuted: default L1H1", "it fell", "Rank 3 of 18",
        "refuted: planted",
        "Expected of this model: refuted", "assert to_io >= 0.3", "0.41 [0.32, 0.5] probability",
        "margin +0.11", "20 prompts", "When 0 met", "another head", "Since when",
        "First without it after it held: the run of 2026-01-02", "--claims-model default", "Drawn",
    ):  # fmt: skip
        assert told in page.text, told


@pytest.mark.parametrize(
    ("cited", "told"),
    [
        ("demo/ioi-logit-diff-clean", "4.276 logits in gpt2"),
        ("demo/resid-pre-patching", "1.0, 0.998, 0.998"),
        ("demo/induction-heads", "5.5: 0.929, 6.9: 0.918"),
        ("", ""),
        ("gone/since", ""),
    ],
)
def test_the_published_figure_is_told(cited: str, told: str) -> None:
    found = published(finding(finding=cited))
    assert found.startswith(told)
    assert bool(found) == bool(told)


@pytest.mark.parametrize("cited", all_findings())
def test_every_published_figure_fits_a_line(cited: str) -> None:
    assert 0 < len(published(finding(finding=cited))) < 400


def test_a_claims_code_is_shown_as_it_is_written(tmp_path: Path) -> None:
    code = 'def test_x(model):\n    """It holds."""\n    assert 1 < 2  # <b>\n'
    folder = written(tmp_path, run(finding(code=code)))
    page = Page((folder / page_of("ioi/x")).read_text())
    assert code in page.text
