"""Counts of faults: kept, told, and red where something happened that must not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from claimlens.ci.faults import __main__ as command
from claimlens.ci.faults import suite
from claimlens.ci.faults.count import Count, Counts, failed
from claimlens.ci.faults.forked import run
from claimlens.ci.run_files import read_run, run_files
from claimlens.ci.selftests.processes import ROOT


def test_what_was_not_tried_has_not_passed(tmp_path: Path) -> None:
    count = Count("x", "x")
    count.must_not("a")
    assert failed([count]) == ["x"]
    count.tried = 1
    assert failed([count]) == []
    count.happened("a")
    assert failed([count]) == ["x"]
    with pytest.raises(KeyError, match="not among what must not happen"):
        count.happened("b")
    assert not Count("nothing", "x", tried=5).passed


def test_counts_are_kept_and_written_to_the_page(tmp_path: Path) -> None:
    counts = Counts(
        "a machine", {"x": Count("x", "a fault", 1200, {"a": 0}, {"b": "c\nd|e"}, "2026-01-01")}
    )
    counts.save(tmp_path / "kept.json")
    assert Counts.load(tmp_path / "kept.json", "a machine") == counts
    with pytest.raises(ValueError, match="holds the counts of a machine; give another file"):
        Counts.load(tmp_path / "kept.json", "another machine")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- counts: begin -->\nold\n<!-- counts: end -->\nafter\n")
    counts.write_page(page)
    text = page.read_text()
    assert "| a fault | 1,200 | a: **0** | b: c d\\|e | 2026-01-01 |" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lacks"):
        counts.write_page(page)


@pytest.mark.parametrize("bad", ["[]", '{"schema": 2}', "{"])
def test_a_file_that_holds_no_counts_is_refused(tmp_path: Path, bad: str) -> None:
    (tmp_path / "kept.json").write_text(bad)
    with pytest.raises(ValueError, match=r"no counts|Expecting"):
        Counts.load(tmp_path / "kept.json", "a machine")


def test_the_command_fails_where_a_part_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = Count("good", "x", 1, {"a": 0}), Count("bad", "x", 1, {"a": 1})
    monkeypatch.setattr(command, "WHOLE", {"good": lambda f: good, "bad": lambda f: bad})
    kept = ["--json", str(tmp_path / "kept.json")]
    assert command.main(["good", *kept]) == 0
    assert command.main(["bad", *kept]) == 1
    assert "failed: bad" in capsys.readouterr().out
    assert command.main(["good", *kept]) == 1, "what was counted before is not forgotten"


@pytest.mark.parametrize("given", [["good", "typo"], ["good", "--json", "other.json"]])
def test_what_cannot_be_done_is_said_before_anything_is(
    given: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text("[]")
    done: list[Path] = []
    monkeypatch.setattr(command, "WHOLE", {"good": done.append})
    with pytest.raises(SystemExit, match="2"):
        command.main(given)
    assert done == []
    assert "Traceback" not in capsys.readouterr().err


def test_the_script_starts_in_a_clone() -> None:
    done = subprocess.run([ROOT / "ci" / "torture", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "docs/reliability.md" in done.stdout


def test_what_a_forked_run_prints_and_stores_is_its_own(tmp_path: Path) -> None:
    home = suite.write(tmp_path / "home", suite.write_model(tmp_path / "model"))
    code, output = run(home, suite.MODEL, first=lambda: print("first", flush=True))
    assert code == 1
    assert output.startswith("first\n")
    assert "4 failed, 4 passed" in output
    (file,) = run_files(home / "runs")
    assert len(read_run(file).records) == suite.CLAIMS
