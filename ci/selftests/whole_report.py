"""A report that has everything in it that a page can show, for tests that look at pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from claimlens.ci.baseline import Baseline, accepted, environment_of
from claimlens.ci.report import gate_page
from claimlens.ci.report.names import page_of
from claimlens.ci.report.pages import write_report
from claimlens.ci.report.study import Study
from claimlens.ci.selftests.figure_samples import SAMPLES
from claimlens.ci.selftests.records import comparison
from claimlens.ci.selftests.report_samples import IDS, N, finding, run
from claimlens.circuits.record import WORDS, TokenScores, packed

FIGURES = "figures/every-kind"
KINDS: dict[str, str] = {
    "overview": "index.html",
    "claim": page_of(FIGURES),
    "gate": gate_page.PAGE,
}
"""A page of each type, by its file in the report's folder: another type is another line."""
LONG = "a very long reason that has no place to be broken: " + "x" * 300


def write(folder: Path, figures: Callable[[], list[dict[str, object]]] | None = None) -> Path:
    """Three models, every verdict, every figure, a baseline, a history, a file that is damaged."""
    drawn = figures() if figures else [make().to_json() for make in SAMPLES.values()]
    told = {"statement": "It holds.\n\nMostly.", "caveat": "A fragile source.", "role": "ioi/mover"}
    mover: dict[str, Any] = {"head": "L1H1"}
    refuted = {"expected": "refuted", "verdict": "refuted"}
    fallen = replace(comparison(-0.1), prompts="p", values=packed(np.arange(N) / N - 0.5))
    scores = TokenScores("attention of L1H1 from END", "probability")
    scores.tokens[IDS[0]], scores.scores[IDS[0]] = ["When", " Mary", "\u202e"], [0.1, 0.8, -0.1]
    before = [
        finding(claim, revision="r1", **head)
        for claim, head in ((FIGURES, mover), ("ioi/refuted", {}), ("ioi/moved", mover))
    ]
    now = [
        finding("ioi/moved", verdict="refuted", comparisons=[fallen], reason=LONG, **mover),
        finding("ioi/moved", head="L2H3", head_values={"L2H3": 0.5, "L3H4": -0.1}),
        finding("ioi/tokens", token_scores=scores, code="def test_x():\n    assert True\n"),
        finding(FIGURES, head="L1H1", figures=drawn, rank=1, rank_of=18, **told),
        finding(FIGURES, "planted", head="L1H2", verdict="refuted", reason=LONG),
        *(finding(f"ioi/{word.replace(' ', '-')}", verdict=word, reason=LONG) for word in WORDS),
        *(finding(f"sae/claim-{n}", "planted", **refuted) for n in range(3)),
        finding("sae/claim-0", "org/a-model-with-a-name-that-is-as-long-as-some-are"),
    ]  # fmt: skip
    known = {each.key: accepted(each, "d", "r") for each in before}
    first, second = run(*before), run(*now, number=2)
    place = environment_of(before[0].model)
    baseline = Baseline("default", "r1", first.id, place, [], known)
    study = Study.of([first, second], ["runs/x.jsonl is no run file"])
    write_report(folder, study, {"default": baseline})
    return folder
