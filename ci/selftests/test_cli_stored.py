"""`claimlens show` and `claimlens diff`, on runs in a store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from claimlens.ci.cli import main
from claimlens.ci.selftests.records import comparison
from claimlens.ci.selftests.report_samples import N, finding, prompts
from claimlens.ci.store import RunFile
from claimlens.circuits.record import ClaimRecord, packed

EVIL = "\x1b[31m\u202e::error::"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stored(*records: ClaimRecord) -> str:
    """The id of a new run in the store that holds them."""
    run = RunFile.create(Path(".claimlens/runs"), {})
    run.add_prompts(prompts())
    for record in records:
        run.add(record)
    run.finish({"exit": 0})
    run.close()
    return run.path.stem


def fallen(**changes: Any) -> ClaimRecord:
    """The finding of `finding()`, refuted by values that all fell by about a half."""
    shaken = np.arange(N) / N - 0.5 + 0.01 * (np.arange(N) % 3)
    low = replace(
        comparison(float(shaken.mean())), prompts="p", values=packed(shaken), verdict="refuted"
    )
    given = {"comparisons": [low], "verdict": "refuted", "revision": "r3", **changes}
    return finding(**given)


# --- show ----------------------------------------------------------------------------------------


def test_show_prints_the_claim_and_who_broke_it(capsys: pytest.CaptureFixture[str]) -> None:
    stored(finding())
    broke = stored(fallen())
    stored(fallen())
    assert main(["show", "ioi/x"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("ioi/x (mechanism)\n  It holds.\n  source: here\n")
    assert "default L1H1: refuted (expected: holds)" in told
    assert "-0.0155 [0.32, 0.5] probability >= 0.3, n=128: refuted" in told
    assert "control, another head: 0 of 1 hold" in told
    assert f"since {broke} (r3): refuted, the first that broke it" in told
    assert told.count("since ") == 2
    assert "again: pytest 'test_x.py::test_x[default-L1H1]' --claims-model default" in told


def test_show_keeps_to_a_model_and_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    first = stored(finding(), finding(model="other"))
    stored(fallen())
    assert main(["show", "ioi/x", "--run", first, "--model", "default"]) == 0
    told = capsys.readouterr().out
    assert "default L1H1: holds" in told
    assert "other L1H1" not in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ioi/y"], "did you mean ioi/x?"),
        (["qqq"], "`claimlens runs` lists the runs"),
        (["ioi/x", "--model", "m"], "was not run on 'm'; it was on default"),
        (["ioi/x", "--run", "qqq"], "no runs are called 'qqq'"),
    ],
)
def test_show_says_what_there_is(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(finding())
    assert main(["show", *words]) == 2
    assert message in capsys.readouterr().err


def test_show_without_runs_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "ioi/x"]) == 2
    assert "no runs in" in capsys.readouterr().err


def test_show_names_a_damaged_run_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    stored(finding())
    Path(".claimlens/runs/20260101T000000Z-0000000a.jsonl").write_text("{}\n")
    assert main(["show", "ioi/x"]) == 0
    assert capsys.readouterr().err.startswith("left out: ")


def test_hostile_text_is_shown_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    stored(finding(model=f"m{EVIL}", statement=EVIL, source=EVIL, reason=f"\n{EVIL}"))
    main(["show", "ioi/x"])
    told = capsys.readouterr().out
    assert "\\x1b" in told
    assert not {"\x1b", "\u202e"} & set(told)


# --- diff ----------------------------------------------------------------------------------------


def test_diff_says_what_became_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    old = stored(finding(), finding("ioi/same"), finding("ioi/gone"))
    newer = stored(fallen(), finding("ioi/same"), finding("ioi/fresh"))
    assert main(["diff", old, newer]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "default: 1 broken, 1 missing, 1 new, 1 unchanged"
    assert [line.split()[:2] for line in lines[1:]] == [
        ["broken", "ioi/x"], ["missing", "ioi/gone"], ["new", "ioi/fresh"],
    ]  # fmt: skip
    assert "0.475 to -0.0155 probability" in lines[1]


def test_diff_finds_a_role_that_the_newer_run_names_elsewhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = stored(finding(head="L1H1"))
    newer = stored(fallen(head="L1H1"), finding(head="L2H3", revision="r3"))
    assert main(["diff", old, newer]) == 0
    assert "moved      ioi/x L1H1: holds, now refuted" in capsys.readouterr().out


def test_diff_the_other_way_is_a_repair(capsys: pytest.CaptureFixture[str]) -> None:
    old, newer = stored(fallen()), stored(finding())
    assert main(["diff", old, "latest"]) == 0
    assert newer
    assert "repaired   ioi/x L1H1: refuted, now holds" in capsys.readouterr().out


def test_diff_pairs_models_without_their_revision(capsys: pytest.CaptureFixture[str]) -> None:
    old = stored(finding(model="o/n@main"), finding(model="only"))
    newer = stored(fallen(model="o/n"))
    assert main(["diff", old, newer, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [f["outcome"] for f in told["models"]["o/n"]] == ["broken"]
    assert told["alone"] == ["only"]


def changed(record: ClaimRecord, **identity: Any) -> ClaimRecord:
    return replace(record, model={**record.model, **identity})


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (changed(finding(), dtype="float64"), "dtype was float32, is float64"),
        (finding(model="other"), "no model in common: one is on default, the other on other"),
    ],
)
def test_diff_refuses_what_cannot_be_compared(
    new: ClaimRecord, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old, newer = stored(finding()), stored(new)
    assert main(["diff", old, newer]) == 2
    assert message in capsys.readouterr().err


def test_diff_of_two_revisions_in_one_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    both = stored(finding(model="m@a"), finding(model="m@b"))
    assert main(["diff", both, both]) == 2
    assert "holds two revisions of m" in capsys.readouterr().err


def test_diff_takes_files_and_names_a_missing_one(capsys: pytest.CaptureFixture[str]) -> None:
    path = f".claimlens/runs/{stored(finding())}.jsonl"
    assert main(["diff", path, path]) == 0
    assert main(["diff", path, "none.jsonl"]) == 2
    assert "none.jsonl cannot be read" in capsys.readouterr().err
