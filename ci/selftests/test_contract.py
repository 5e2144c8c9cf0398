"""The contract attacked: no claim that is wrongly made, or made to look green, comes out green.

All claims of `attacks` run in one pytest process on a micro model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from claimlens.ci.run_files import read_run
from claimlens.ci.selftests import micro
from claimlens.ci.selftests.attacks import ATTACKS, FAULTS, MODEL, PREAMBLE
from claimlens.ci.selftests.micro import Run
from claimlens.circuits.record import ClaimRecord


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contract") / "suite"
    micro.write_directory(folder / "model")
    claims = "\n\n\n".join(attack.source(name) for name, attack in ATTACKS.items())
    (folder / "test_attacks.py").write_text(f"{PREAMBLE}\n\n{claims}\n")
    return folder


@pytest.fixture(scope="module")
def run(suite: Path) -> Run:
    return micro.run_pytest(suite, "-v", f"--claims-model={MODEL}")


def word_of(run: Run, name: str) -> str:
    """The word that pytest printed for a claim of one cell."""
    found = re.search(
        rf"^test_attacks\.py::test_{name.replace('-', '_')}\[\S+\] (.*?) +\[", run.output, re.M
    )
    assert found, f"{name} was not reported:\n{run.output}"
    return found[1]


def section_of(run: Run, name: str) -> str:
    """What pytest printed of a claim that is not green."""
    test = f"test_{name.replace('-', '_')}["
    headings = list(re.finditer(r"^_{3,} (.+?) _{3,}$", run.output, re.M))
    ends = [*(m.start() for m in headings[1:]), len(run.output)]
    for heading, end in zip(headings, ends, strict=True):
        if test in heading[1]:
            return run.output[heading.end() : end].split("\n====")[0]
    return ""


@pytest.mark.parametrize("name", [n for n in ATTACKS if n != "superlative"])
def test_the_verdict(run: Run, name: str) -> None:
    records = run.of(f"contract/{name}")
    assert records, f"no record of {name}:\n{run.output}"
    assert {record.verdict for record in records} == {ATTACKS[name].verdict}, records[0].reason
    for record in records:
        if record.verdict not in ("holds", "refuted", "undecided"):
            assert record.reason


@pytest.mark.parametrize("name", ATTACKS)
def test_only_a_claim_that_is_as_expected_is_green(run: Run, name: str) -> None:
    green = {"HOLDS", "REFUTED AS EXPECTED", "PASSED"}
    if name == "superlative":
        return
    word, color = word_of(run, name), ATTACKS[name].color
    assert (word in green) == (color == "green"), word
    assert word.startswith("NOT APPLICABLE") == (color == "grey"), word


@pytest.mark.parametrize("name", [n for n, a in ATTACKS.items() if a.color == "red"])
def test_what_a_red_claim_is_told(run: Run, name: str) -> None:
    told = section_of(run, name)
    assert ATTACKS[name].told in told.replace("\n", " "), told
    has_traceback = re.search(r"test_attacks\.py:\d+", told) is not None
    assert has_traceback == (name in FAULTS), told


def test_a_superlative_of_each_head_alone_cannot_be_green_for_all(run: Run) -> None:
    words = {record.head: record.verdict for record in run.of("contract/superlative")}
    assert set(words) == {"L0H0", "L0H1"}
    assert list(words.values()).count("holds") <= 1
    assert "refuted" in words.values()


def test_the_run_fails_and_its_totals_name_every_verdict(run: Run) -> None:
    assert run.code == 1
    line = next(line for line in run.output.splitlines() if line.startswith(f"{MODEL} (sha256:"))
    counts: dict[str, int] = {}
    for record in run.records:
        counts[record.verdict] = counts.get(record.verdict, 0) + 1
    for word, count in counts.items():
        assert f"{count} {word}" in line


def test_a_claim_that_holds_has_had_its_controls(run: Run) -> None:
    (record,) = run.of("contract/holds")
    assert {control.argument for control in record.controls} == {"prompts", "model"}
    assert all(control.passed for control in record.controls)
    for record in run.of("contract/holds-for-heads"):
        (heads,) = [c for c in record.controls if c.argument == "head"]
        assert set(heads.verdicts) == {"L1H0", "L1H1", "L2H0", "L2H1"}
        assert (record.rank, record.rank_of) == (1, 5)
        assert set(record.head_values) == {record.head, *heads.verdicts}
        assert record.head_values[record.head or ""] == record.comparisons[0].value
        assert max(record.head_values, key=record.head_values.__getitem__) == record.head


def test_the_worst_prompts_of_a_refuted_claim_are_shown(run: Run) -> None:
    (record,) = run.of("contract/refuted")
    worst = record.comparisons[0].worst
    assert len(worst) == 3
    shown = section_of(run, "refuted")
    assert all(str(w["text"]) in shown for w in worst)
    assert "rerun:  pytest 'test_attacks.py::test_refuted[./model]'" in shown


def test_an_undecided_claim_has_looked_at_more_prompts(run: Run) -> None:
    (record,) = run.of("contract/undecided")
    assert record.looks == 3
    assert record.comparisons[0].n == 512


# --- under xdist ---------------------------------------------------------------------------------


def comparable(record: ClaimRecord) -> Mapping[str, object]:
    """All of a record but the time it took."""
    return {k: v for k, v in asdict(record).items() if k != "duration_s"}


def test_two_workers_store_the_same_results(run: Run, suite: Path, tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    quick = "holds or refuted or constant or nothing or equality or lacks"
    parallel = micro.run_pytest(
        suite,
        *("-n", "2", "--dist", "loadscope", "-v", "-k", quick, f"--claims-model={MODEL}"),
        store=tmp_path / "runs",
    )
    assert parallel.code == 1, parallel.output
    key = {record.nodeid: comparable(record) for record in run.records}
    found = {record.nodeid: comparable(record) for record in parallel.records}
    assert len(found) >= 10
    assert found == {nodeid: key[nodeid] for nodeid in found}
    assert run.file is not None
    assert parallel.file is not None
    header, again = read_run(run.file).header, read_run(parallel.file).header
    assert set(header) == set(again)
    assert header["options"] == again["options"]
