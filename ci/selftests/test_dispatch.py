"""`claimlens dispatch`: an event from outside is checked whole before anything is done with it."""

from __future__ import annotations

import hmac
import json
import re
import shlex
from pathlib import Path

import pytest

from claimlens.ci.cli import main
from claimlens.ci.dispatch import SHORTEST
from claimlens.ci.selftests.processes import ROOT
from claimlens.ci.selftests.test_revision import HELD, MAIN, hold
from claimlens.ci.selftests.user_repository import MODEL
from claimlens.ci.selftests.workflow_runs import TEMPLATES, load

SECRET = "x" * SHORTEST
SENT = {"model": MODEL, "revision": MAIN, "secret": SECRET}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one baseline, and the secret in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEPT", SECRET)
    hold(HELD)
    return tmp_path


def dispatch(event: object) -> int:
    text = event if isinstance(event, str) else json.dumps(event)
    Path("event.json").write_text(text)
    return main(["dispatch", "event.json", "--secret", "KEPT"])


def fault(capsys: pytest.CaptureFixture[str], event: object) -> str:
    """The one line with which an event is refused, which names no secret."""
    assert dispatch(event) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.isprintable()
    assert SECRET not in line
    return line


@pytest.mark.parametrize("event", [SENT, {"client_payload": SENT, "model": "x"}, SENT | {"id": 1}])
def test_an_event_that_may_names_a_model_at_a_commit(
    event: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(event) == 0
    assert capsys.readouterr().out == f"{MODEL}@{MAIN}\n"


@pytest.mark.parametrize("secret", ["", "x", SECRET + "x", SECRET[1:] + "y", "\ud800", "é" * 20])
def test_another_secret_is_refused(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = fault(capsys, SENT | {"secret": secret})
    assert told.endswith("the event's secret is not the one that is kept here")


def test_the_secret_is_compared_in_constant_time_and_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        asked.append((one, other))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert "secret" in fault(capsys, SENT | {"model": "../x", "revision": "x"})
    assert asked == [(SECRET.encode(), SECRET.encode())]


def test_a_secret_of_any_bytes_is_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEPT", "\udcff" * SHORTEST)
    assert fault(capsys, SENT).endswith("the event's secret is not the one that is kept here")


@pytest.mark.parametrize("kept", [None, "", "x" * (SHORTEST - 1)])
def test_without_a_secret_of_its_own_nothing_is_followed(
    kept: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KEPT")
    if kept is not None:
        monkeypatch.setenv("KEPT", kept)
    told = fault(capsys, SENT | {"secret": kept or ""})
    assert f"KEPT holds no secret of at least {SHORTEST} characters" in told


@pytest.mark.parametrize(
    "revision",
    ["", "main", MAIN[1:], MAIN + "1", MAIN + "\n", "A" * 40, "g" * 40, f"$(id){MAIN}", "\x1b[2J"],
)
def test_a_revision_is_forty_hex(revision: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = fault(capsys, SENT | {"revision": revision})
    assert told.endswith(" is no revision; expected 40 hex in lower case")


@pytest.mark.parametrize(
    "model",
    ["org/other", "default", "./model", "", "../x", f"{MODEL}@{MAIN}", MODEL + "\n", "org--micro"],
)
def test_a_model_is_one_that_has_a_baseline(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = fault(capsys, SENT | {"model": model})
    assert "is none of the hub models" in told or "no model name" in told or "baseline of" in told


def test_a_baseline_of_a_local_model_opens_no_door(capsys: pytest.CaptureFixture[str]) -> None:
    hold("sha256:" + "1" * 64, "default")
    hold(HELD, "./model")
    for model in ("default", "./model"):
        assert "is none of the hub models" in fault(capsys, SENT | {"model": model})


@pytest.mark.parametrize(
    "event",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "1",
        {},
        {"client_payload": None},
        {"client_payload": {}},
        {n: t for n, t in SENT.items() if n != "secret"},
        SENT | {"revision": 1},
        SENT | {"model": [MODEL]},
        SENT | {"secret": None},
    ],
    ids=lambda event: repr(event)[:40],
)
def test_what_is_no_event_is_refused(event: object, capsys: pytest.CaptureFixture[str]) -> None:
    told = fault(capsys, event)
    assert "holds no event" in told or "needs three texts: model, revision, secret" in told


def test_a_file_that_is_not_there_or_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dispatch", "absent.json", "--secret", "KEPT"]) == 2
    Path("binary").write_bytes(b"\xff\xfe")
    assert main(["dispatch", "binary", "--secret", "KEPT"]) == 2
    assert capsys.readouterr().err.count("holds no event") == 2


# --- what docs/ci.md says ------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")


def test_the_event_of_the_page_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shown,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    sent = json.loads(shown)
    monkeypatch.setenv("KEPT", sent["client_payload"]["secret"])
    hold(HELD, sent["client_payload"]["model"])
    assert dispatch(sent) == 0
    assert capsys.readouterr().out == f"org/name@{sent['client_payload']['revision']}\n"
    assert load(TEMPLATES / "github" / "claims-dispatch.yml")["on"] == {
        "repository_dispatch": {"types": [sent["event_type"]]}
    }


def test_the_commands_of_the_page_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLAIMS_SECRET", SECRET)
    monkeypatch.setattr("claimlens.ci.revision.resolve", lambda name, revision: MAIN)
    Path("event.json").write_text(json.dumps(SENT | {"model": "org/name"}))
    hold(HELD, "org/name")
    shown = re.findall(r"^\$ claimlens (.*)$", PAGE, re.MULTILINE)
    assert [main(shlex.split(command)) for command in shown] == [0, 0, 0, 0]
    commits = [MAIN, MAIN, HELD, MAIN]
    assert capsys.readouterr().out.split() == [f"org/name@{commit}" for commit in commits]


def test_what_the_page_says_of_a_hubs_call_is_what_the_hub_library_says() -> None:
    from huggingface_hub import WebhookPayload

    fields = WebhookPayload.model_fields
    assert {"repo", "updatedRefs"} <= set(fields)
    for name in ("`repo.name`", "`updatedRefs`", "`newSha`"):
        assert name in PAGE
    assert "newSha" in str(WebhookPayload.model_json_schema())
