"""What the tokens of the weakest and strongest prompts weigh; what fails there costs nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from claimlens.ci.report.claim_page import sections, styles
from claimlens.ci.report.colored import Colored
from claimlens.ci.report.study import Study
from claimlens.ci.selftests.records import comparison, record
from claimlens.ci.selftests.report_samples import IDS, Page, finding, run, written
from claimlens.circuits import attention, logit_diff
from claimlens.circuits.kernels.input_attribution import input_attribution
from claimlens.circuits.parts import Head, PromptPairs
from claimlens.circuits.record import ClaimRecord, ComparisonRecord, TokenScores, packed
from claimlens.fixtures import token_scores as module
from claimlens.fixtures.bench import Bench
from claimlens.fixtures.models import LoadedModel
from claimlens.fixtures.token_scores import token_scores


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench("planted")


@pytest.fixture(scope="module")
def ioi(bench: Bench) -> PromptPairs:
    return bench.ioi(24)


def of(values: Any, **changes: Any) -> ComparisonRecord:
    return replace(comparison(), n=len(values), values=packed(np.array(values, float)), **changes)


def test_of_a_head_it_is_where_end_looks(bench: Bench, ioi: PromptPairs) -> None:
    mover = bench.roles["ioi/name_mover"][0]
    values = attention(bench.model, ioi.clean, mover, "END", "IO").tolist()
    args = {"model": bench.model, "head": mover, "ioi": ioi}
    found = token_scores(of(values), ioi.ids, args, bench.loaded)
    assert found is not None
    assert (found.what, found.unit) == (f"attention of {mover} from END", "probability")
    places = dict(zip(ioi.ids, ioi.clean.at("IO")[:, 0].tolist(), strict=True))
    for id, row in found.scores.items():
        assert row[places[id]] == pytest.approx(values[ioi.ids.index(id)], abs=1e-4)
        assert sum(row) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("relation", [">=", "<="])
def test_it_is_of_both_ends(relation: str, bench: Bench, ioi: PromptPairs) -> None:
    args = {"model": bench.model, "ioi": ioi}
    found = token_scores(of(range(24), relation=relation), ioi.ids, args, bench.loaded)
    assert found is not None
    assert set(found.tokens) == {*ioi.ids[:5], *ioi.ids[-5:]}
    words = bench.loaded.vocabulary.words(ioi.clean)
    assert all(found.tokens[id] == words[ioi.ids.index(id)] for id in found.tokens)


def test_of_the_model_it_is_what_the_logit_difference_hangs_on(
    bench: Bench, ioi: PromptPairs
) -> None:
    values = logit_diff(bench.model, ioi.clean).tolist()
    args = {"model": bench.model, "ioi": ioi}
    found = token_scores(of(values), ioi.ids, args, bench.loaded)
    assert found is not None
    assert found.unit == "logits"
    expected = dict(zip(ioi.ids, input_attribution(bench.model, ioi.clean), strict=True))
    for id, row in found.scores.items():
        assert row == pytest.approx(expected[id][: len(row)].tolist(), rel=1e-3, abs=1e-4)
        assert any(row)


def test_prompts_of_other_values_are_not_taken_for_these(bench: Bench, ioi: PromptPairs) -> None:
    args = {"model": bench.model, "ioi": ioi}
    other = tuple(f"other-{n}" for n in range(24))
    assert token_scores(of(range(24)), other, args, bench.loaded) is None


def test_a_claim_about_no_model_has_none(bench: Bench, ioi: PromptPairs) -> None:
    assert token_scores(of(range(24)), ioi.ids, {"ioi": ioi}, bench.loaded) is None


def test_prompts_without_answers_have_none(bench: Bench, ioi: PromptPairs) -> None:
    bare = replace(ioi, clean=replace(ioi.clean, answer=None, wrong_answer=None))
    args = {"model": bench.model, "ioi": bare}
    assert token_scores(of(range(24)), bare.ids, args, bench.loaded) is None


def test_what_fails_here_is_said_and_costs_no_verdict(
    bench: Bench, ioi: PromptPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(loaded: LoadedModel, prompts: PromptPairs, head: Head | None) -> TokenScores:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(module, "_scored", full)
    args = {"model": bench.model, "ioi": ioi}
    found = token_scores(of(range(24)), ioi.ids, args, bench.loaded)
    assert found == TokenScores("not measured: out of memory")
    assert Colored.of(found).told == "Tokens are not coloured: not measured: out of memory."


SCORES = TokenScores("attention of L1H1 from END", "probability", {IDS[0]: ["a", "<b>"]})
SCORES.scores[IDS[0]] = [0.25, 0.5]


def test_a_page_shows_them(tmp_path: Any) -> None:
    shown = finding(token_scores=SCORES)
    (section,) = sections(Study.of([run(shown)]), "ioi/x")
    assert [cell.color for cell in section.colored.prompts[IDS[0]]] == ["p10", "p20"]
    assert ".claimlens-figure .p10" in styles([section])
    (path,) = (written(tmp_path, run(shown)) / "claims").iterdir()
    page = Page(path.read_text())
    assert ("title", "<b>: 0.5") in page.attributes
    assert "Colour of a token: attention of L1H1 from END [probability]" in page.text
    assert "b" not in page.tags[page.tags.index("table") :][:4]


def test_a_row_of_zeros_has_no_colour() -> None:
    scores = TokenScores("x", "y", {"p": ["a"]}, {"p": [0.0]})
    assert [cell.color for cell in Colored.of(scores).prompts["p"]] == [""]


def test_they_are_kept(tmp_path: Any) -> None:
    kept = record(token_scores=SCORES, head_values={"L1H1": 0.5})
    assert ClaimRecord.from_json(kept.to_json()) == kept


@pytest.mark.parametrize(
    "damage",
    [
        {"scores": {IDS[0]: [0.25]}},
        {"scores": {}},
        {"scores": {IDS[0]: [0.25, "x"]}},
        {"scores": {IDS[0]: [0.25, None]}},
        {"tokens": []},
        {"more": 1},
    ],
)
def test_damaged_ones_are_refused(damage: dict[str, Any]) -> None:
    data = record(token_scores=SCORES).to_json()
    data["token_scores"] |= damage
    with pytest.raises(ValueError, match="token scores"):
        ClaimRecord.from_json(data)
