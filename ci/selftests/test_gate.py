"""What the gate makes of every pair of verdicts, and what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from claimlens.ci.baseline import Accepted, Baseline, baseline_path, environment_of
from claimlens.ci.gate import Decision, Finding, Measured, decide, judge, not_comparable
from claimlens.ci.gate_moves import moved
from claimlens.ci.gate_plugin import check_commits
from claimlens.ci.measuring_again import NOT_AGAIN, without
from claimlens.ci.model_names import is_commit, is_local
from claimlens.ci.selftests.records import comparison, record
from claimlens.circuits.record import WORDS, ClaimRecord, PromptsRecord, packed

N = 30
IDENTITY = {
    "name": "gpt2",
    "revision": "b",
    "dtype": "float32",
    "device": "cpu",
    "processing": "folded",
    "architecture": "GPT2LMHeadModel",
    "tf32": False,
    "seed": 0,
}
PROMPTS = PromptsRecord("p", [f"i{i}" for i in range(N)], [f"t{i}" for i in range(N)], [""] * N)


def measured(verdict: str, mean: float = 1.0, seed: int = 0, **changes: Any) -> ClaimRecord:
    """A claim `>= 0.5` whose values lie around a mean."""
    values = mean + 0.1 * np.random.default_rng(seed).normal(size=N)
    compared = replace(
        comparison(float(values.mean())), threshold=0.5, values=packed(values), prompts="p"
    )
    return record(
        verdict=verdict,
        head=changes.pop("head", None),
        model=IDENTITY,
        comparisons=[compared],
        **changes,
    )


def side(*records: ClaimRecord) -> Measured:
    return Measured.of(records, {"p": PROMPTS}, "gpt2")


def baseline(*records: ClaimRecord) -> Baseline:
    claims = {r.key: Accepted(r.verdict, 1, r.source_digest, "2026-01-01", "x") for r in records}
    return Baseline("gpt2", "a", "run", environment_of(IDENTITY), ["claims"], claims)


def outcome(old: ClaimRecord, new: ClaimRecord, blind: bool = False) -> Finding:
    (found,) = judge(baseline(old), None if blind else side(old), side(new))
    return found


HELD = measured("holds")


@pytest.mark.parametrize(
    ("new", "wanted"),
    [
        (measured("holds"), "unchanged"),
        (measured("holds", 1.0, seed=1), "unchanged"),
        (measured("holds", 0.97), "unchanged"),
        (measured("holds", 0.7), "weakened"),
        (measured("holds", 1.5), "unchanged"),
        (measured("refuted", 0.2), "broken"),
        (measured("undecided", 0.5), "unclear"),
        (measured("not specific", 1.0, reason="another head does it"), "broken"),
        (measured("not applicable", reason="no such head"), "broken"),
        (measured("not measured", reason="NaN"), "unclear"),
    ],
)
def test_what_becomes_of_a_finding_that_held(new: ClaimRecord, wanted: str) -> None:
    assert outcome(HELD, new).outcome == wanted


@pytest.mark.parametrize("old", [word for word in WORDS if word != "holds"])
def test_what_did_not_hold_is_repaired_or_unchanged(old: str) -> None:
    for new in WORDS:
        found = outcome(measured(old, 0.2), measured(new, 1.0))
        assert found.outcome == ("repaired" if new == "holds" else "unchanged")
        assert found.decision is Decision.ACCEPTED


def test_a_refuted_finding_is_broken_only_by_a_change_that_is_seen() -> None:
    assert outcome(HELD, measured("refuted", 0.2), blind=True).outcome == "unclear"
    same = measured("refuted", 1.0)
    found = outcome(HELD, same)
    assert found.outcome == "unclear"
    assert "no change that chance would not make" in found.reason


def test_values_without_their_prompts_are_not_compared() -> None:
    lost = Measured({"ioi/x": HELD}, {})
    (found,) = judge(baseline(HELD), lost, side(measured("refuted", 0.2)))
    assert found.outcome == "unclear"
    assert "does not hold the prompts that its values belong to" in found.reason


def test_the_more_claims_the_larger_a_change_must_be() -> None:
    """Alone its p is below .01; among hundreds without a change it is not (Holm)."""
    names = [f"many/x-{i}" for i in range(400)]
    old = [replace(HELD, claim=name) for name in names]
    same = [replace(HELD, claim=name) for name in names]
    noise = np.random.default_rng(0).normal(size=N)
    noise = (noise - noise.mean()) / noise.std()
    values = 1.0 + 0.1 * np.random.default_rng(0).normal(size=N) - 0.1 - 0.16 * noise
    few = replace(measured("holds"), claim="few/x")
    weaker = replace(few, comparisons=[replace(few.comparisons[0], values=packed(values))])
    (alone,) = judge(baseline(few), side(few), side(weaker))
    assert 1e-4 < alone.changes[0].p < 0.01
    assert alone.outcome == "weakened"
    among = judge(baseline(few, *old), side(few, *old), side(weaker, *same))
    assert next(f for f in among if f.key == "few/x").outcome == "unchanged"


def test_missing_new_and_stale() -> None:
    other = replace(HELD, claim="ioi/y")
    found = {f.key: f for f in judge(baseline(HELD), side(HELD), side(other))}
    assert {key: f.outcome for key, f in found.items()} == {"ioi/x": "missing", "ioi/y": "new"}
    assert found["ioi/x"].decision is Decision.UNCLEAR
    assert found["ioi/y"].decision is Decision.ACCEPTED
    rewritten = replace(HELD, source_digest="other")
    assert "the claim was changed since the baseline" in outcome(HELD, rewritten).reason


@pytest.mark.parametrize(
    "word", [word for word in WORDS if word not in ("holds", "not applicable")]
)
def test_a_new_finding_that_does_not_hold_needs_a_decision(word: str) -> None:
    (found,) = judge(baseline(), None, side(measured(word)))
    assert (found.outcome, found.decision) == ("new", Decision.UNCLEAR)


def test_broken_beats_unclear_and_unclear_beats_the_rest() -> None:
    def finding(name: Any) -> Finding:
        return Finding("x", name, "holds", "holds")

    assert decide([]) is Decision.ACCEPTED
    assert decide([finding(n) for n in ("unchanged", "weakened", "moved")]) is Decision.ACCEPTED
    assert decide([finding(n) for n in ("unchanged", "missing")]) is Decision.UNCLEAR
    assert decide([finding(n) for n in ("missing", "broken", "unclear")]) is Decision.REFUSED
    assert [int(d) for d in Decision] == [0, 10, 11]


def test_the_gravest_stands_first() -> None:
    names = ("a/a", "b/b", "c/c", "d/d")
    old = [replace(HELD, claim=name) for name in names]
    new = [
        replace(measured(word, mean), claim=name)
        for name, word, mean in zip(
            names, ("holds", "undecided", "refuted", "holds"), (1.0, 0.5, 0.2, 0.7), strict=True
        )
    ]
    found = judge(baseline(*old), side(*old), side(*new))
    assert [f.key for f in found] == ["c/c", "b/b", "d/d", "a/a"]


def test_a_head_that_is_named_now_and_does_it_as_well_is_where_it_moved() -> None:
    old, other = replace(HELD, head="L9H9"), replace(HELD, head="L9H6")
    weaker = replace(measured("holds", 0.7), head="L9H6")
    kept = replace(HELD, head="L10H0")
    for new, wanted in ((other, "moved"), (weaker, "missing"), (kept, "missing")):
        found = judge(baseline(old, kept), side(old, kept), side(new, kept))
        after = {f.key: f for f in moved(found, side(new, kept), side(old, kept))}
        assert after["ioi/x L9H9"].outcome == wanted
        assert ("is now played by L9H6" in after["ioi/x L9H9"].reason) is (wanted == "moved")
        assert after["ioi/x L10H0"].outcome == "unchanged"


def test_one_new_head_stands_for_one_that_is_lost() -> None:
    lost = [replace(HELD, head=head) for head in ("L9H9", "L9H6")]
    gone = [replace(measured("refuted", 0.2), head=r.head) for r in lost]
    found = judge(baseline(*lost), side(*lost), side(*gone))
    assert [f.outcome for f in found] == ["broken", "broken"]
    anew = side(replace(HELD, head="L9H1"), replace(HELD, head="L9H6"))
    after = moved(found, anew, side(*lost))
    assert sorted(f.outcome for f in after) == ["broken", "moved"]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("less", [0.7, 0.97])
def test_as_many_findings_as_possible_find_their_likest_head(turned: bool, less: float) -> None:
    """The stronger of two new heads could stand for either that is lost; or both for both."""
    strong, weak = measured("holds", 1.0), measured("holds", less)
    lost = [replace(strong, head="L9H9"), replace(weak, head="L9H6")]
    gone = [replace(measured("refuted", 0.2), head=r.head) for r in lost]
    there = [replace(strong, head="L9H1"), replace(weak, head="L9H2")]
    found = judge(baseline(*lost), side(*lost), side(*gone))
    after = moved(found, side(*there[:: -1 if turned else 1]), side(*lost))
    assert {f.key: f.outcome for f in after} == {"ioi/x L9H9": "moved", "ioi/x L9H6": "moved"}
    by_key = {f.key: f.reason for f in after}
    assert "is now played by L9H1" in by_key["ioi/x L9H9"]
    assert "is now played by L9H2" in by_key["ioi/x L9H6"]


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["claims", "--claims-model", "x", "-q"], ["claims", "-q"]),
        (["--claims-gate=enforce", "-n2", "-k", "ioi"], ["-k", "ioi"]),
        (["-n", "2", "--dist", "loadscope", "-x", "a.py"], ["a.py"]),
        (["--claims-reason", "--claims-model", "b"], ["b"]),
        (["--claims-seed", "3", "--no-header"], ["--claims-seed", "3", "--no-header"]),
    ],
)
def test_what_is_measured_again_is_asked_the_same(arguments: list[str], kept: list[str]) -> None:
    assert without(arguments, NOT_AGAIN) == kept


@pytest.mark.parametrize(
    ("model", "local", "commit"),
    [
        ("./x", True, False),
        ("default", True, False),
        ("default:step-700", True, False),
        ("planted:no-copying", True, False),
        ("default-org/x", False, False),
        ("gpt2", False, False),
        ("gpt2@main", False, False),
        ("org/name@" + "0a" * 20, False, True),
        ("org/name@" + "0a" * 20 + ":discovered", False, True),
        ("org/name@" + "0A" * 20, False, False),
    ],
)
def test_a_commit_is_told_from_a_branch(model: str, local: bool, commit: bool) -> None:
    assert (is_local(model), is_commit(model)) == (local, commit)


def test_a_decision_is_about_a_commit() -> None:
    check_commits(["default", "./x", "org/name@" + "0a" * 20])
    with pytest.raises(pytest.UsageError, match=r"gpt2 names no commit.*say gpt2@<40 hex>"):
        check_commits(["default", "gpt2"])


@pytest.mark.parametrize("field", ["dtype", "device", "processing", "seed", "tf32"])
def test_another_environment_is_not_compared(field: str) -> None:
    there = side(replace(HELD, model={**IDENTITY, field: "other"}))
    assert f"{field} was " in not_comparable(baseline(HELD), there)
    assert not not_comparable(baseline(HELD), side(HELD))


def test_two_gpus_of_a_machine_are_one_environment() -> None:
    first, second = ({**IDENTITY, "device": f"cuda:{i}"} for i in range(2))
    assert environment_of(first) == environment_of(second)
    assert environment_of(first) != environment_of(IDENTITY)


@pytest.mark.parametrize(
    ("model", "file"),
    [
        ("gpt2", "gpt2.json"),
        ("org/name@0123", "org--name.json"),
        ("./model", "model.json"),
        ("../../etc/passwd", "etc--passwd.json"),
        ("/", "model.json"),
        ("a\x00b\n\x1b", "a--b.json"),
        ("..", "model.json"),
        ("planted:no-copying", "planted--no-copying.json"),
        ("x" * 300, "x" * 100 + ".json"),
    ],
)
def test_a_baseline_stays_in_its_folder(model: str, file: str, tmp_path: Any) -> None:
    assert baseline_path(tmp_path, model) == tmp_path / file
