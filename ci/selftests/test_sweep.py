"""Many models, a process each: what is finished is not run again, what was cut goes on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from claimlens.ci import cli, sweep_key
from claimlens.ci.run_files import read_run, run_files
from claimlens.ci.selftests import micro
from claimlens.ci.selftests.records import record
from claimlens.ci.store import RunFile
from claimlens.ci.sweep import BadSweep, Unit, read_models
from claimlens.ci.sweep_key import key_of
from claimlens.ci.time_line import KEY, time_line
from claimlens.circuits.record import WORDS

MODELS = ("./one", "./two", "./three")
PLUGINS = ("-p", "claimlens.fixtures.plugin", "-p", "claimlens.ci.plugin")
CLAIMS = '''
import time
import pytest

@pytest.mark.claim("many/first", kind="identity", source="here")
def test_first(model, ioi, measure):
    """True of all."""
    open("ran.txt", "a").write("1")
    assert measure(lambda p: [float(i) for i in range(len(p))], on=ioi, unit="x", exact=True) >= -1

@pytest.mark.claim("many/second", kind="identity", source="here")
def test_second(model, ioi, measure):
    """False of all."""
    open("ran.txt", "a").write("2")
    assert measure(lambda p: [float(i) for i in range(len(p))], on=ioi, unit="x", exact=True) < -1
'''


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return micro.write_directory(tmp_path_factory.mktemp("sweep") / "model")


@pytest.fixture
def folder(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three models, two claims, a list; what a command starts finds the clone."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "claimlens").symlink_to(micro.ROOT)
    home = tmp_path / "home"
    home.mkdir()
    for name in MODELS:
        shutil.copytree(model, home / name)
    (home / "test_many.py").write_text(CLAIMS)
    (home / "models.txt").write_text("# some\n" + "\n".join(MODELS) + "  # the last\n")
    monkeypatch.chdir(home)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return home


def sweep(*options: str) -> list[str]:
    """The arguments of the command."""
    given = ["--import-mode=importlib", "-c", os.devnull, "--rootdir=.", "test_many.py"]
    return ["sweep", "--models", "models.txt", *options, "--", *PLUGINS, *given]


def units(folder: Path) -> list[Unit]:
    """The units of the sweep, as things are now."""
    arguments = sweep()[sweep().index("--") + 1 :]
    return [Unit.of(name, folder / ".claimlens" / "sweep", arguments) for name in MODELS]


def verdicts(folder: Path) -> dict[str, dict[str, str]]:
    """By model: the verdict of each claim, from the one run file that each has."""
    found = {}
    for unit in units(folder):
        (path,) = run_files(unit.folder)
        found[unit.model] = {r.claim: r.verdict for r in read_run(path).records}
    return found


WHOLE = {name: {"many/first": "holds", "many/second": "refuted"} for name in MODELS}


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_each_model_has_its_run_and_none_is_run_twice(
    folder: Path, jobs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(sweep("--jobs", jobs)) == 0
    told = capsys.readouterr().out
    assert re.search(r"^many/first +\.\.\.$", told, re.MULTILINE)
    assert re.search(r"^many/second +FFF$", told, re.MULTILINE)
    assert verdicts(folder) == WHOLE
    assert (folder / "ran.txt").read_text() in ("12" * 3, "112212", "121122", "112122", "121212")
    before = (folder / "ran.txt").read_text()
    assert cli.main(sweep()) == 0
    assert "3 of 3 models are finished already" in capsys.readouterr().out
    assert (folder / "ran.txt").read_text() == before


def test_a_sweep_that_is_killed_goes_on(folder: Path) -> None:
    command = [sys.executable, "-m", "claimlens.ci.cli", *sweep()]
    for wanted in (1, 3):
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
        while process.poll() is None and _lines(folder) < wanted:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert verdicts(folder) == WHOLE


def change_claims(folder: Path) -> None:
    source = (folder / "test_many.py").read_text()
    (folder / "test_many.py").write_text(source.replace(">= -1", ">= -2"))


def change_settings(folder: Path) -> None:
    (folder / "conftest.py").write_text("")


def change_model(folder: Path) -> None:
    (folder / "two" / "roles.json").write_text('{"schema": 1, "roles": {}}')


@pytest.mark.parametrize(
    ("change", "again"), [(change_claims, 3), (change_settings, 3), (change_model, 1)]
)
def test_what_was_measured_of_something_else_is_not_taken_for_finished(
    folder: Path, change: Callable[[Path], None], again: int
) -> None:
    before = units(folder)
    assert units(folder) == before
    change(folder)
    assert sum(a != b for a, b in zip(before, units(folder), strict=True)) == again


def test_a_model_at_home_is_known_by_what_lies_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    before = key_of("~/two", [])
    change_model(folder)
    assert key_of("~/two", []) != before


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (["claims/ioi/test_a.py::test_x"], "claims/ioi/test_a.py"),
        (["claims/ioi/test_a.py"], "claims/ioi/helper.py"),
        (["claims/ioi"], "claims/conftest.py"),
        (["claims"], "claims/ioi/test_a.py"),
        (["claims", "--claims-text=notes.txt"], "notes.txt"),
        (["claims", "--claims-text", "notes.txt"], "notes.txt"),
        (["claims", "-cmy.ini"], "my.ini"),
        (["claims"], "pytest.toml"),
        (["--pyargs", "mine"], "mine/test_b.py"),
        (["--pyargs", "mine.test_b"], "mine/test_b.py"),
    ],
)
def test_whatever_an_argument_names_is_in_the_key(
    arguments: list[str], changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    there = ("claims/ioi/test_a.py", "mine/__init__.py", "mine/test_b.py", "notes.txt", "my.ini")
    for name in there:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("# as it was\n")
    before = key_of("gpt2", arguments)
    assert key_of("gpt2", arguments) == before
    Path(changed).write_text("# another\n")
    assert key_of("gpt2", arguments) != before
    sys.modules.pop("mine", None)


def test_other_code_measures_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of("gpt2", [])
    (tmp_path / "kernel.py").write_text("")
    sweep_key._code_digest.cache_clear()
    monkeypatch.setattr(sweep_key, "_code", lambda: iter([("kernel.py", tmp_path / "kernel.py")]))
    assert key_of("gpt2", []) != before
    sweep_key._code_digest.cache_clear()


@pytest.mark.parametrize("name", ["nosuch.claims", "..", "", "x" * 500, "a.b.c", "json.decoder.no"])
def test_a_package_that_there_is_not_is_said_by_pytest(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    assert key_of("gpt2", ["--pyargs", name]) == key_of("gpt2", ["--pyargs", name])


@pytest.mark.parametrize(
    "name", ["/", ".", "..", "~", "/etc", "./a\0b", "/\ud83d", "/" + "a" * 300, "~$(id)", "~\ud83d"]
)
def test_a_folder_that_is_no_models_is_not_read(name: str, tmp_path: Path) -> None:
    """A name may be that of a whole disk."""
    assert Unit.of(name, tmp_path) == Unit.of(name, tmp_path)


def _lines(folder: Path) -> int:
    return sum(
        path.read_text().count('"type": "claim"')
        for path in (folder / ".claimlens").rglob("*.jsonl")
    )


def test_a_model_without_results_is_said_and_the_others_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "models.txt").write_text("planted:no-such-thing\n./one\n")
    assert cli.main(sweep()) == 3
    told = capsys.readouterr().out
    assert re.search(r"planted:no-such-thing: pytest ended with 4; see .*pytest.log", told)
    assert "1 of 2 models are not finished; run it again to go on" in told
    assert re.search(r"^many/first +\.$", told, re.MULTILINE)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "names no model; give one a line"),
        (b"# nothing\n\n", "names no model"),
        (b"gpt2\ngpt2\n", "names gpt2 twice"),
        (b"a b\n", "'a b' is no model name"),
        (b"a\x1b[31m\n", "is no model name"),
        (b"\xff\xfe\n", "cannot be read"),
    ],
)
def test_a_list_that_is_none(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "m.txt").write_bytes(content)
    with pytest.raises(BadSweep, match=told):
        read_models(tmp_path / "m.txt")


def test_faults_of_the_user_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", "--models", "gone.txt"]) == 2
    assert "claimlens sweep: gone.txt cannot be read" in capsys.readouterr().err
    (tmp_path / "claims").mkdir()
    unit = Unit.of("gpt2", Path(".claimlens/sweep"), ["claims"])
    unit.folder.mkdir(parents=True)
    (unit.folder / "20200101T000000Z-00000000.jsonl").write_text("}{\n")
    Path("m.txt").write_text("gpt2\n")
    assert cli.main(["sweep", "--models", "m.txt"]) == 2
    printed = capsys.readouterr().err
    assert "claimlens sweep: gpt2: " in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "a\x00b", "..", "x" * 300, "a/b@c"])
def test_a_folder_of_a_model_stays_in_the_store(name: str, tmp_path: Path) -> None:
    folder = Unit.of(name, tmp_path).folder
    assert folder.parent == tmp_path
    assert len(folder.name) < 80
    assert folder != Unit.of(name, tmp_path, ["-k", "first"]).folder
    assert folder == Unit.of(name, tmp_path).folder
    assert folder != Unit.of(name + "x", tmp_path).folder


def test_every_verdict_has_its_sign(tmp_path: Path) -> None:
    paths = []
    for word in WORDS:
        run = RunFile.create(tmp_path / word.replace(" ", "-"), {})
        run.add(record(verdict=word))
        run.close()
        paths.append(run.path)
    told = time_line([read_run(path) for path in paths])
    assert told[-1] == KEY
    row = told[-2].removeprefix("ioi/x L1H1").strip()
    assert len(set(row)) == len(WORDS) == len(row)
    assert all(f"{sign} {word}" in KEY for sign, word in zip(row, WORDS, strict=True))
