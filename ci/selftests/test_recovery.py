"""Of a damaged file every intact line is kept, and the damage listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claimlens.ci import cli
from claimlens.ci.recovery import recover
from claimlens.ci.run_files import NoRun, find_run, read_run
from claimlens.ci.selftests.records import record
from claimlens.ci.store import RunFile
from claimlens.circuits.record import PromptsRecord

SEEDS = range(4)
PROMPTS = PromptsRecord("00ff", ["ioi-0", "ioi-1"], ["a", "b"], ["When", "Then"])


def write(folder: Path) -> Path:
    """A whole run: a header, prompts, four claims, an end."""
    run = RunFile.create(folder, {"claims_seed": 0})
    run.add_prompts(PROMPTS)
    for seed in SEEDS:
        run.add(record(seed=seed))
    run.finish({"exit": 0, "claims": len(SEEDS)})
    run.close()
    return run.path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "runs")


def lines_of(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines(keepends=True)


def seeds(file: Path) -> list[int]:
    return [record.seed for record in read_run(file).records]


def test_of_a_whole_file_all_is_kept(file: Path) -> None:
    found = recover(file)
    assert found.path.read_bytes() == file.read_bytes()
    assert (found.kept, found.damage) == (4, ())


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("damage", [b"", b"}{", b"\xff\xfe\x00", b"[" * 100_000, b"[1]", b"NaN"])
def test_one_damaged_line_is_lost_and_named(file: Path, number: int, damage: bytes) -> None:
    lines = lines_of(file)
    lines[number - 1] = damage + b"\n"
    file.write_bytes(b"".join(lines))
    before = file.read_bytes()
    found = recover(file)
    assert [fault.split(":")[0] for fault in found.damage] == [f"line {number}"]
    assert seeds(found.path) == [seed for seed in SEEDS if seed != number - 3]
    assert file.read_bytes() == before
    assert read_run(found.path).header["type"] == "run"


def test_a_file_whose_end_is_lost_is_one_that_was_cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])
    found = recover(file)
    assert read_run(found.path).end is None
    assert len(found.damage) == 1


def test_lines_of_a_merge_conflict_are_damage(file: Path) -> None:
    lines = lines_of(file)
    lines[3:3] = [b"<<<<<<< ours\n"]
    lines[5:5] = [b"=======\n"]
    lines.append(b">>>>>>> theirs\n")
    file.write_bytes(b"".join(lines))
    found = recover(file)
    assert seeds(found.path) == list(SEEDS)
    assert len(found.damage) == 3


@pytest.mark.parametrize("content", [b"", b"\n\n", b"no JSON\n" * 3, bytes(range(256)) * 8])
def test_a_file_without_an_intact_claim_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(NoRun, match="holds no intact claim"):
        recover(tmp_path / "x.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_is_changed_no_intact_line_is_lost(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = write(tmp_path_factory.mktemp("runs"))
    lines = lines_of(file)
    number = data.draw(st.integers(0, len(lines) - 1))
    start = data.draw(st.integers(0, len(lines[number]) - 1))
    end = data.draw(st.integers(start, len(lines[number]) - 1))
    noise = data.draw(st.binary(max_size=20))
    lines[number] = lines[number][:start] + noise + lines[number][end:]
    file.write_bytes(b"".join(lines))
    try:
        found = seeds(recover(file).path)
    except NoRun:
        found = []
    assert {seed for seed in SEEDS if seed != number - 2} <= set(found)


# --- the commands --------------------------------------------------------------------------------


def test_recover_says_what_was_kept(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(file)
    lines[3] = b"}{\n"
    file.write_bytes(b"".join(lines))
    for named in (str(file), file.stem, "latest"):
        assert cli.main(["recover", named, "--store", str(file.parent)]) == 0
        told = capsys.readouterr().out.splitlines()
        assert told[0].startswith("line 4: Expecting")
        assert told[1].endswith("-recovered.jsonl: 3 claims kept, 1 damaged line")
        assert told[2] == f"go on with it: --claims-resume {file.stem}-recovered"
        (file.parent / f"{file.stem}-recovered.jsonl").unlink()


def damaged(file: Path) -> Path:
    """A run whose second claim is lost."""
    lines = lines_of(file)
    file.write_bytes(b"".join([*lines[:3], b"}{\n", *lines[4:]]))
    return file


def test_of_a_run_that_lost_something_the_end_is_lost_too(file: Path) -> None:
    found = recover(damaged(file))
    assert read_run(found.path).end is None
    assert find_run(file.parent, "latest") == found.path


def test_what_became_of_an_earlier_recovery_stays(file: Path) -> None:
    first = recover(damaged(file)).path
    with first.open("ab") as more:
        more.write(b'{"type": "resumed", "at": "x"}\n')
    before = first.read_bytes()
    second = recover(file).path
    assert (first.name, second.name) == (
        f"{file.stem}-recovered.jsonl",
        f"{file.stem}-recovered-2.jsonl",
    )
    assert first.read_bytes() == before
    assert find_run(file.parent, f"{file.stem}-recovered") == first


def test_a_run_that_never_began_is_not_the_latest(file: Path) -> None:
    (file.parent / "29990101T000000Z-00000000.jsonl").write_bytes(b'{"type": "ru')
    assert find_run(file.parent, "latest") == file


def test_runs_tells_whole_cut_and_damaged_runs(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, damaged = write(file.parent), write(file.parent)
    cut.write_bytes(b"".join(lines_of(cut)[:4]))
    damaged.write_bytes(b"".join([*lines_of(damaged)[:3], b"}{\n", *lines_of(damaged)[4:]]))
    assert cli.main(["runs", "--store", str(file.parent)]) == 0
    told = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert told[file.stem].rstrip().endswith("default  4 holds  exit 0")
    assert "2 holds" in told[cut.stem]
    assert "cut: --claims-resume goes on with it" in told[cut.stem]
    assert "damaged: line 4 is damaged" in told[damaged.stem]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["runs"], "claimlens runs: no runs in .claimlens/runs; name another folder"),
        (["recover", "latest"], "claimlens recover: no runs in .claimlens/runs"),
        (["recover", "gone.jsonl"], "gone.jsonl cannot be read: No such file or directory"),
        (["recover", "../x"], "claimlens recover: no runs in"),
    ],
)
def test_a_fault_of_the_user_is_one_line(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    printed = capsys.readouterr().err
    assert told in printed
    assert printed.count("\n") == 1
