"""`claimlens revision`: a name becomes a commit, by asking a hub; a mistake becomes one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from claimlens.ci.baseline import Baseline, baseline_path
from claimlens.ci.cli import main
from claimlens.ci.commands.options import BASELINES
from claimlens.ci.revision import LONGEST, NoRevision, parsed, resolve
from claimlens.ci.selftests.user_repository import MODEL, Hub

MAIN, TAG, HELD = "1" * 40, "2" * 40, "3" * 40


def hold(revision: str, model: str = MODEL) -> Path:
    """Write a baseline without claims that holds a revision."""
    path = baseline_path(BASELINES, model)
    Baseline(model, revision, "run", {}, [], {}).save(path)
    return path


@pytest.fixture
def hub() -> Hub:
    return Hub({"main": MAIN, "v1": TAG})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, and a hub at the other end of a socket."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub.served() as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        yield tmp_path


def revision(*arguments: str) -> int:
    return main(["revision", *arguments])


@pytest.mark.parametrize(
    ("asked", "commit"), [("", MAIN), ("@main", MAIN), ("@v1", TAG), (f"@{HELD}", HELD)]
)
def test_a_name_becomes_a_commit(
    asked: str, commit: str, capsys: pytest.CaptureFixture[str], hub: Hub
) -> None:
    assert revision(MODEL + asked) == 0
    told = capsys.readouterr()
    assert told.out == f"{MODEL}@{commit}\n"
    assert told.err == f"{commit} is not accepted: there is no baseline of it\n"
    assert bool(hub.asked) is (commit != HELD)  # a commit is what it is: nobody is asked


@pytest.mark.parametrize(
    ("accepted", "asked", "printed"),
    [
        ("compare", "", MAIN),
        ("compare", "@v1", TAG),
        ("skip", "", ""),
        ("skip", "@v1", TAG),
        ("skip", f"@{MAIN}", ""),
        ("only", "", MAIN),
    ],
)
def test_what_becomes_of_the_accepted_revision(
    accepted: str, asked: str, printed: str, capsys: pytest.CaptureFixture[str], hub: Hub
) -> None:
    hold(MAIN)
    assert revision(MODEL + asked, "--accepted", accepted) == 0
    told = capsys.readouterr()
    assert told.out == (f"{MODEL}@{printed}\n" if printed else "")
    known = f"{MAIN} is the accepted revision"
    assert told.err.startswith(known if printed != TAG else f"{TAG} is not accepted: the baseline")
    assert told.err.endswith(": nothing to do\n") is (printed == "")
    if accepted == "only":
        assert hub.asked == []


def test_another_folder_of_baselines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = hold(MAIN).parent.rename(tmp_path / "elsewhere")
    assert revision(MODEL, "--accepted=skip", "--baselines", str(moved)) == 0
    assert revision(MODEL, "--accepted=skip") == 0
    assert capsys.readouterr().out == f"{MODEL}@{MAIN}\n"


@pytest.mark.parametrize("name", ["default", "planted:no-backup", "./model", "~/model"])
@pytest.mark.parametrize("accepted", ["compare", "skip", "only"])
def test_a_model_of_this_machine_is_its_name(
    name: str, accepted: str, capsys: pytest.CaptureFixture[str], hub: Hub
) -> None:
    assert revision(name, "--accepted", accepted) == 0
    assert capsys.readouterr().out == f"{name}\n"
    assert hub.asked == []


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ["v1", "gone", MAIN])
def test_a_revision_that_would_not_be_looked_at_is_refused(
    revision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(MAIN)
    told = fault(capsys, f"{MODEL}@{revision}", "--accepted=only")
    assert told.endswith(f"asks for the accepted one; say {MODEL}")


def fault(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a fault: nothing is on stdout, and the exit code is 2."""
    assert revision(*arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.isprintable()
    return line


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("org/absent", "the hub shows no model org/absent: check the name; a private or gated one"),
        (f"{MODEL}@gone", f"{MODEL} has no revision gone; name a branch, a tag or 40 hex"),
    ],
)
def test_what_the_hub_does_not_have(
    name: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in fault(capsys, name)


@pytest.mark.parametrize(
    ("endpoint", "offline"), [("http://127.0.0.1:9", False), ("not an address", False), ("", True)]
)
def test_without_a_network_a_commit_must_be_named(
    endpoint: str,
    offline: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint or constants.ENDPOINT)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    assert "the hub gave no answer about org/micro" in fault(capsys, MODEL)
    assert revision(f"{MODEL}@{MAIN}") == 0


@pytest.mark.parametrize(
    ("status", "body"), [(500, b""), (200, b"<html>"), (200, b"[1]"), (403, b"")]
)
def test_an_answer_that_is_none(
    status: int, body: bytes, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "answer", lambda path: (status, {}, body))
    with pytest.raises(NoRevision, match="the hub gave no answer about org/micro"):
        resolve(MODEL, "")


@pytest.mark.parametrize("commit", ["", MAIN[1:], MAIN + "1", MAIN.replace("1", "A"), "main"])
def test_an_answer_that_names_no_commit(commit: str, hub: Hub) -> None:
    hub.branches["main"] = commit
    with pytest.raises(NoRevision, match="the hub named no commit of org/micro"):
        resolve(MODEL, "")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "org/name@",
        "a/b/c",
        "a/../b",
        "org/name@../x",
        "org/name@a..b",
        "org/name@a b",
        "org/name@-x",
        "-x/y",
        "org/name\n",
        "org/n\x1b[31mame",
        "org/n\u202eame",
        "org/name@main\n::error::x",
        "org/name@" + "x" * LONGEST,
        "http://x/y",
    ],
)
def test_a_name_that_can_be_none_reaches_no_hub(name: str, hub: Hub) -> None:
    with pytest.raises(NoRevision, match=r"is no model name; expected org/name or org/name@") as e:
        parsed(name)
    assert str(e.value).isprintable()
    assert len(str(e.value)) < 200


def test_hostile_text_is_one_line(capsys: pytest.CaptureFixture[str], hub: Hub) -> None:
    assert r"'a/b\x1b[2J\n::error::x' is no" in fault(capsys, "a/b\x1b[2J\n::error::x")
    assert hub.asked == []


def test_only_the_accepted_revision_needs_a_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    told = fault(capsys, MODEL, "--accepted=only")
    assert (
        f"no revision of {MODEL} is accepted: claims/baselines/org--micro.json is missing" in told
    )


def test_a_baseline_that_cannot_be_read_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    path = hold(MAIN)
    path.write_text(path.read_text()[:-20])
    assert "org--micro.json is damaged" in fault(capsys, MODEL)
    hold(MAIN, "org-micro").rename(path)
    assert "is the baseline of org-micro, not of org/micro" in fault(capsys, MODEL)
