"""The run file: what was finished is on disk, what is damaged is named, all of it is plain JSON."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimlens.ci.run_files import NoRun, find_run, read_run
from claimlens.ci.selftests.records import comparison, record
from claimlens.ci.store import RunFile
from claimlens.circuits.record import SCHEMA, ClaimRecord

OPTIONS = {"claims_model": ["default"], "claims_seed": 0}


@pytest.fixture
def run(tmp_path: Path) -> RunFile:
    return RunFile.create(tmp_path / "a" / "runs", OPTIONS)


def test_what_is_written_is_read_back(run: RunFile) -> None:
    written = [record(), record(head="L2H0", verdict="refuted", rank=3, rank_of=9)]
    for each in written:
        run.add(each)
    run.close()
    stored = read_run(run.path)
    header, found = stored.header, stored.records
    assert found == written
    assert header["type"] == "run"
    assert header["schema"] == SCHEMA
    assert header["id"] == run.path.stem
    assert header["options"] == OPTIONS


def test_a_claim_is_on_disk_before_the_next_one_starts(
    run: RunFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second reader sees each record while the file is still open, and each was synced."""
    synced: list[int] = []
    plain = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for count in (1, 2, 3):
        run.add(record(seed=count))
        assert [r.seed for r in read_run(run.path).records] == list(range(1, count + 1))
        assert synced[-1] == run.path.stat().st_size
    assert len(synced) == 3


def test_one_line_per_claim_whatever_its_texts_contain(run: RunFile) -> None:
    run.add(record(reason="two\nlines\r\n\u2028 and a separator \x85", statement='"quoted"'))
    run.close()
    raw = run.path.read_bytes()
    assert raw.count(b"\n") == 2
    assert raw.endswith(b"\n")
    assert read_run(run.path).records[0].reason.startswith("two\nlines\r\n\u2028")


def test_half_a_character_is_stored(run: RunFile) -> None:
    """A byte-level token can decode to a lone surrogate, which UTF-8 cannot write."""
    run.add(record(reason="\ud83d"))
    run.close()
    assert read_run(run.path).records[0].reason == "\ud83d"


def test_what_a_full_disk_cuts_short_is_taken_back(
    run: RunFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.add(record())
    plain, written = os.write, list[int]()

    def write(descriptor: int, data: bytes) -> int:
        if written:
            raise OSError(28, "No space left on device")
        written.append(plain(descriptor, data[:40]))
        return written[0]

    with monkeypatch.context() as full:
        full.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space left"):
            run.add(record(seed=1))
    run.add(record(seed=2))
    run.close()
    assert [r.seed for r in read_run(run.path).records] == [0, 2]


def test_a_run_that_cannot_begin_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            RunFile.create(tmp_path, OPTIONS)
    assert list(tmp_path.glob("*.jsonl")) == []


def test_two_runs_of_one_second_have_two_files(tmp_path: Path) -> None:
    paths = {RunFile.create(tmp_path, OPTIONS).path for _ in range(20)}
    assert len(paths) == 20


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_and_leaves_no_half_line(
    run: RunFile, bad: float
) -> None:
    run.add(record())
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.add(record(comparisons=[comparison(bad)]))
    run.add(record(seed=2))
    run.close()
    assert [r.seed for r in read_run(run.path).records] == [0, 2]


def test_a_record_is_plain_json() -> None:
    data = record().to_json()
    assert json.loads(json.dumps(data)) == data
    assert ClaimRecord.from_json(data) == record()


@given(st.text(), st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_and_number_survives(reason: str, text: str, value: float) -> None:
    worst = [{"id": "p", "value": value, "text": text}]
    whole = record(reason=reason, comparisons=[replace(comparison(value), worst=worst)])
    line = json.dumps(whole.to_json(), allow_nan=False)
    assert ClaimRecord.from_json(json.loads(line)) == whole


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"verdikt": "holds"}, r"unknown fields \['verdikt'\]"),
        ({"schema": SCHEMA + 1}, f"schema {SCHEMA + 1}; expected {SCHEMA}"),
        ({"schema": None}, f"schema None; expected {SCHEMA}"),
    ],
)
def test_a_record_of_another_kind_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ClaimRecord.from_json({**record().to_json(), **change})


def test_a_record_without_its_verdict_is_refused() -> None:
    data = record().to_json()
    del data["verdict"]
    with pytest.raises(ValueError, match=r"fields \['verdict'\] are missing"):
        ClaimRecord.from_json(data)


# --- damage --------------------------------------------------------------------------------------


@pytest.fixture
def file(run: RunFile) -> Path:
    """A finished file: a header and three claims."""
    for seed in range(3):
        run.add(record(seed=seed))
    run.close()
    return run.path


def lines_of(file: Path) -> list[str]:
    return [f"{line}\n" for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_line_is_named(file: Path, number: int, damage: str) -> None:
    lines = lines_of(file)
    line = lines[number - 1]
    lines[number - 1] = {"cut": line[: len(line) // 2] + "\n", "garbage": "}{\n", "empty": "\n"}[
        damage
    ]
    file.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(NoRun, match=rf"{file.name}(, line {number} is damaged| is no run file)"):
        read_run(file)


def test_a_line_that_is_no_object_is_named(file: Path) -> None:
    file.write_text("".join([*lines_of(file), "[1, 2]\n"]), encoding="utf-8")
    with pytest.raises(ValueError, match="line 5 is damaged: it is no JSON object"):
        read_run(file)


def test_a_claim_of_another_schema_is_named_by_its_line(file: Path) -> None:
    lines = lines_of(file)
    lines[2] = lines[2].replace(f'"schema": {SCHEMA}', '"schema": 99')
    file.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{file.name}, line 3.*schema 99; expected {SCHEMA}"):
        read_run(file)


def test_a_comparison_with_an_unknown_field_is_named_by_its_line(file: Path) -> None:
    lines = lines_of(file)
    lines[1] = lines[1].replace('"asserted"', '"assorted"')
    file.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{file.name}, line 2"):
        read_run(file)


def test_a_file_without_a_header_is_no_run_file(file: Path) -> None:
    file.write_text("".join(lines_of(file)[1:]), encoding="utf-8")
    with pytest.raises(NoRun, match="the first line is no header"):
        read_run(file)


def test_an_empty_file_is_no_run_file(file: Path) -> None:
    file.write_text("", encoding="utf-8")
    with pytest.raises(NoRun, match="is no run file: it has no whole line"):
        read_run(file)


def test_a_second_header_is_refused(file: Path) -> None:
    lines = lines_of(file)
    file.write_text("".join([*lines, lines[0]]), encoding="utf-8")
    with pytest.raises(ValueError, match="line 5 is damaged: a line of type 'run'"):
        read_run(file)


def test_a_number_that_is_not_finite_is_not_read(file: Path) -> None:
    lines = lines_of(file)
    lines[3] = lines[3].replace('"value": 0.41', '"value": NaN')
    file.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match="line 4 is damaged: NaN is no JSON number"):
        read_run(file)


def test_bytes_that_are_no_text_are_an_error_that_names_the_file(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\xff\xfe\n")
    with pytest.raises(ValueError, match=file.name):
        read_run(file)


def test_git_does_not_see_a_folder_that_a_run_makes(run: RunFile) -> None:
    assert (run.path.parent / ".gitignore").read_text() == "*\n"


def test_a_folder_that_was_there_is_left_as_it_is(tmp_path: Path) -> None:
    RunFile.create(tmp_path, OPTIONS).close()
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".jsonl"} == {".locks"}
    assert (tmp_path / ".locks" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("newest", ["29990101T000000Z-00ff00ff", "20200101T000000Z-00ff00ff"])
def test_the_newest_run_is_the_last_one_whatever_the_clock_says(
    tmp_path: Path, newest: str
) -> None:
    """A clock that goes back must not make `latest` an older run."""
    first = RunFile.create(tmp_path, OPTIONS)
    first.close()
    first.path.rename(tmp_path / f"{newest}.jsonl")
    made = []
    for _ in range(3):
        run = RunFile.create(tmp_path, OPTIONS)
        run.close()
        made.append(run.path)
        assert find_run(tmp_path, "latest") == run.path
    assert made == sorted(made)


def test_a_file_that_is_dated_at_the_end_of_time_or_not_at_all_is_in_nobodys_way(
    tmp_path: Path,
) -> None:
    (tmp_path / "29990101T000000Z-00ff00ff.jsonl").touch()
    for name in ("99991231T235959Z-00ff00ff", "20261345T999999Z-00ff00ff", "7T-Z-1"):
        (tmp_path / f"{name}.jsonl").touch()
        run = RunFile.create(tmp_path, OPTIONS)
        run.close()
        assert re.fullmatch(r"29990101T00000\dZ-[0-9a-f]{8}", run.path.stem)
