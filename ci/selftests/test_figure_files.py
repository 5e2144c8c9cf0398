"""`python -m claimlens.ci.figures RUN.jsonl OUT_DIR`: one file per figure, or one clear error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claimlens.ci.figures.__main__ import main
from claimlens.ci.selftests.figure_samples import heads, tokens
from claimlens.ci.selftests.processes import RunClaims
from claimlens.ci.selftests.records import record
from claimlens.ci.store import RunFile

RECORD = record(model={"name": "./../my model:1"})

CLAIM = '''
import pytest
from claimlens.circuits import correct
from claimlens.circuits.figures import Bar, Bars

@pytest.mark.claim("mine/accuracy", kind="behaviour", source="our own notebook")
def test_true(model, ioi, measure, figure):
    """The model names the indirect object."""
    share = measure(lambda p: correct(model, p.clean), on=ioi, unit="share of prompts")
    figure(Bars("Accuracy", "share", [Bar("<b>IO</b>", share.value)]))
    assert share >= {threshold}
'''


def written(tmp_path: Path, *figures: Any) -> Path:
    """A run file with one record that carries these figures."""
    run = RunFile.create(tmp_path / "runs", {})
    run.add(replace(RECORD, figures=list(figures)))
    run.close()
    return run.path


def test_each_figure_becomes_a_file_named_after_its_claim(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = written(tmp_path, heads().to_json(), tokens().to_json())
    assert main([str(run), str(tmp_path / "out" / "here")]) == 0
    names = ["ioi-x_my-model-1_L1H1_1.svg", "ioi-x_my-model-1_L1H1_2.html"]
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == names
    first, second = ((tmp_path / "out" / "here" / name).read_text("utf-8") for name in names)
    assert first.startswith("<svg ")
    assert second.startswith("<!doctype html>")
    assert "default-src 'none'" in second


def test_in_runs_of_several_models_no_file_takes_the_place_of_another(tmp_path: Path) -> None:
    run = RunFile.create(tmp_path / "runs", {})
    for name in ("a:b", "a/b"):
        run.add(replace(RECORD, model={"name": name}, figures=[heads().to_json()]))
    run.close()
    assert main([str(run.path), str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "no such file"),
        (b"", "is no run file: it has no whole line"),
        (b"\x00\xff\n", "is no run file, or its header is damaged"),
    ],
)
def test_what_is_no_run_file_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, why: str
) -> None:
    path = tmp_path / "run.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path), str(tmp_path / "out")]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_corrupt_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = written(tmp_path, heads().to_json())
    run.write_bytes(run.read_bytes()[:-20] + b"\n")
    assert main([str(run), str(tmp_path / "out")]) == 2
    assert f"{run}, line 2 is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        ([], "has no figures"),
        ([{"kind": "Pie"}], "figure 1 of test_x.py::test_x[default-L1H1] is damaged"),
        ([tokens().to_json(), {**heads().to_json(), "x": []}], "figure 2 of"),
    ],
)
def test_without_a_whole_figure_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], figures: list[Any], why: str
) -> None:
    assert main([str(written(tmp_path, *figures)), str(tmp_path / "out")]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_is_no_run_and_a_file_is_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "a folder; expected a run file" in capsys.readouterr().err
    run = written(tmp_path, heads().to_json())
    assert main([str(run), str(run)]) == 2
    assert "figures cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("threshold", [0.5, 1.5])
def test_a_claims_figure_goes_all_the_way(
    run_claims: RunClaims, tmp_path: Path, threshold: float
) -> None:
    """Of a claim that holds and of one that is refuted, whose figure is wanted the more."""
    text = CLAIM.replace("{threshold}", str(threshold))
    run_claims({"test_mine.py": text}, f"--claims-store={tmp_path / 'runs'}")
    (run,) = (tmp_path / "runs").glob("*.jsonl")
    assert main([str(run), str(tmp_path / "out")]) == 0
    drawn = (tmp_path / "out" / "mine-accuracy_default_1.svg").read_text("utf-8")
    assert "&lt;b&gt;IO&lt;/b&gt;" in drawn
