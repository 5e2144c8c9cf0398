"""Baselines on disk: diff-friendly, whole or not there, and damage is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claimlens.ci.baseline import Accepted, BadBaseline, Baseline, accepted
from claimlens.ci.intents import Intent, Run, changed
from claimlens.ci.selftests.records import record

CLAIMS = {
    "ioi/b L9H9": Accepted("holds", 1, "00", "2026-01-01", "first", {"x >= 1": 2.5}),
    "ioi/a": Accepted("refuted", 2, "01", "2026-02-01", "“known”", {}),
}
BASELINE = Baseline("gpt2", "a" * 40, "run", {"dtype": "float32"}, ["claims"], CLAIMS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    BASELINE.save(tmp_path / "baselines" / "gpt2.json")
    return tmp_path / "baselines" / "gpt2.json"


def test_what_is_saved_is_read_back(file: Path) -> None:
    assert Baseline.load(file) == BASELINE
    assert [path.name for path in file.parent.iterdir()] == ["gpt2.json"]


def test_it_is_sorted_one_value_a_line(file: Path) -> None:
    text = file.read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    assert text.index("ioi/a") < text.index("ioi/b")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[:-20], "is damaged: "),
        (lambda text: "", "is damaged: "),
        (lambda text: "<<<<<<< ours\n" + text, "holds the markers of a merge conflict"),
        (lambda text: text.replace('"schema": 1', '"schema": 7'), "its schema is 7; expected 1"),
        (lambda text: text.replace('"holds"', '"maybe"'), "has the verdict 'maybe'"),
        (lambda text: text.replace('"ioi/a"', '"ioi/b L9H9"'), "'ioi/b L9H9' stands there twice"),
        (lambda text: text.replace("2.5", "NaN"), "NaN is no JSON number"),
        (lambda text: text.replace("2.5", "1e999"), "values holds something else than it should"),
        (lambda text: text.replace('"paths"', '"path"'), "unknown fields"),
        (lambda text: text.replace('"version": 2', '"version": "2"'), "version is '2'"),
        (lambda text: "[" * 100_000, "is damaged: "),
        (lambda text: "[]", "where an object is expected"),
    ],
)
def test_damage_is_told(file: Path, damage: Callable[[str], str], told: str) -> None:
    file.write_text(damage(file.read_text()))
    with pytest.raises(BadBaseline, match=told):
        Baseline.load(file)


def test_the_baseline_of_another_model_is_refused(file: Path) -> None:
    assert Baseline.of(file.parent, "gpt2@" + "0a" * 20) == BASELINE
    file.rename(file.with_name("pythia.json"))
    with pytest.raises(BadBaseline, match=r"pythia.json is the baseline of gpt2, not of pythia"):
        Baseline.of(file.parent, "pythia")


def test_bytes_that_are_no_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadBaseline, match="cannot be read"):
        Baseline.load(file)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_is_changed_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("b") / "gpt2.json"
    BASELINE.save(file)
    content = file.read_bytes()
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start, len(content)))
    file.write_bytes(content[:start] + data.draw(st.binary(max_size=30)) + content[end:])
    with suppress(BadBaseline):
        assert Baseline.load(file).schema == 1


# --- intents -------------------------------------------------------------------------------------

HELD = record(model={"name": "gpt2", "revision": "b"})
RUN = Run("run", "gpt2", [HELD], ("claims",))
CREATE = Intent("create", "first")


@pytest.mark.parametrize(
    ("before", "run", "intent", "told"),
    [
        (BASELINE, RUN, CREATE, "there is a baseline of gpt2 already"),
        (None, Run("r", "gpt2", [HELD], ("claims",), "cut"), CREATE, "takes a whole run: cut"),
        (None, RUN, Intent("update", "x"), "there is no baseline of gpt2 yet"),
        (None, RUN, Intent("accept", "x", ("ioi/x",)), "there is no baseline of gpt2 yet"),
        (BASELINE, RUN, Intent("accept", "x", ("ioi/y",)), "did you mean 'ioi/x'"),
        (
            BASELINE,
            Run("r", "gpt2", [HELD], ("claims/ioi",)),
            Intent("trim", ""),
            "is of `pytest claims`, this run of `pytest claims/ioi`",
        ),
        (
            None,
            Run("r", "gpt2", [HELD, record(verdict="not measured", head="L0H0")], ("claims",)),
            CREATE,
            "1 claims were not measured, first ioi/x L0H0",
        ),
        (None, Run("r", "gpt2", [record(model={})], ("claims",)), CREATE, "no claim was measured"),
    ],
)
def test_an_intent_that_cannot_be_is_refused(
    before: Baseline | None, run: Run, intent: Intent, told: str
) -> None:
    with pytest.raises(BadBaseline, match=told):
        changed(before, run, intent)


@pytest.mark.parametrize(
    ("word", "reason", "claims", "told"),
    [
        ("create", " ", (), "create needs a reason"),
        ("update", "", (), "update needs a reason"),
        ("accept", "x", (), "accept takes the claims that it means"),
        ("create", "x", ("ioi/x",), "no other intent does"),
    ],
)
def test_an_intent_says_what_and_why(
    word: Any, reason: str, claims: tuple[str, ...], told: str
) -> None:
    with pytest.raises(BadBaseline, match=told):
        Intent(word, reason, claims)


def test_one_claim_is_accepted_of_a_run_in_which_others_were_not_measured() -> None:
    others = [HELD, record(claim="ioi/z", verdict="not measured")]
    after = changed(
        BASELINE,
        Run("r", "gpt2", others, ("claims/ioi",), "cut"),
        Intent("accept", "x", ("ioi/x",)),
    )
    assert after.claims == {**CLAIMS, HELD.key: after.claims[HELD.key]}
    assert after.revision == BASELINE.revision


def test_values_are_kept_to_six_digits() -> None:
    compared = record().comparisons[0]
    compared.value = 0.123456789
    assert accepted(record(comparisons=[compared]), "d", "r").values == {"to_io >= 0.3": 0.123457}
