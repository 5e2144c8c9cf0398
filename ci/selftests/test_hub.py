"""Hub models, offline: one revision, resolved once, checked file by file, and said in every record.

The cache is built as huggingface_hub lays it out; no test here touches a network.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.hub_cache import put
from claimlens.ci.selftests.micro import Run
from claimlens.fixtures.directories import ModelUnavailable
from claimlens.fixtures.hub import HubName, resolve

NAME = "org/micro"
REVISION = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40

CLAIM = '''
import pytest

from claimlens.circuits import attribute


@pytest.mark.claim("hub/head", kind="mechanism", source="here", expected={"org/micro": "refuted"})
@pytest.mark.role("ioi/name_mover")
def test_head(model, ioi, head, measure):
    """A claim made for a test."""
    assert measure(lambda p: attribute(model, p.clean, head, "answer"), on=ioi, unit="logits") >= 9


@pytest.mark.claim("hub/task", kind="behaviour", source="here", expected={"org/micro": "refuted"})
def test_task(model, ioi, measure):
    """A claim made for a test."""
    from claimlens.circuits import logit_diff

    assert measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits") >= 9
'''


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with two revisions: `main`, and one with other weights that no branch names."""
    folder = tmp_path_factory.mktemp("hub")
    put(folder / "hub", NAME, micro.write_directory(folder / "a"), REVISION, "main")
    put(folder / "hub", NAME, micro.write_directory(folder / "b", micro.random_model()), OTHER)
    return folder / "hub"


@pytest.fixture
def offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Claims on the model by branch, by revision, and on a revision that is not there."""
    folder = tmp_path_factory.mktemp("run") / "suite"
    folder.mkdir()
    (folder / "test_hub.py").write_text(CLAIM)
    names = [NAME, f"{NAME}@main", f"{NAME}@{REVISION}", f"{NAME}@{OTHER}", f"{NAME}@gone"]
    options = [f"--claims-model={name}" for name in names]
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "HF_HUB_CACHE": str(cache)}
    return micro.run_pytest(folder, *options, env=env)


@pytest.mark.parametrize(
    ("asked", "revision"),
    [("", REVISION), ("@main", REVISION), (f"@{REVISION}", REVISION), (f"@{OTHER}", OTHER)],
)
def test_every_record_says_the_resolved_revision(run: Run, asked: str, revision: str) -> None:
    records = [record for record in run.records if record.model["name"] == NAME + asked]
    assert {record.claim for record in records} == {"hub/head", "hub/task"}, run.output
    for record in records:
        assert record.model["revision"] == revision
        assert record.verdict == "refuted"
        assert record.expected == "refuted"


def test_the_same_revision_under_another_name_gives_the_same_numbers(run: Run) -> None:
    values = {
        record.model["name"]: record.comparisons[0].value
        for record in run.of("hub/task")
        if record.comparisons
    }
    assert values[NAME] == values[f"{NAME}@main"] == values[f"{NAME}@{REVISION}"]
    assert values[NAME] != values[f"{NAME}@{OTHER}"]


def test_a_revision_that_is_not_cached_is_not_measured(run: Run) -> None:
    records = [record for record in run.records if record.model["name"] == f"{NAME}@gone"]
    assert records
    for record in records:
        assert record.verdict == "not measured"
        assert f"{NAME}@gone is not in the local hub cache" in record.reason
        assert "revision" not in record.model
    assert run.code == pytest.ExitCode.TESTS_FAILED
    assert "Traceback" not in run.output


# --- resolving -----------------------------------------------------------------------------------


def test_a_branch_resolves_to_its_commit(offline: Path) -> None:
    for name in (NAME, f"{NAME}@main", f"{NAME}@{REVISION}"):
        folder, revision = resolve(HubName.parse(name))
        assert revision == REVISION
        assert folder.name == REVISION
        assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_damaged_blob_is_named(
    file: str, offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    copy = Path(shutil.copytree(offline, tmp_path / "hub", symlinks=True))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(copy))
    blob = (copy / f"models--{NAME.replace('/', '--')}/snapshots/{REVISION}/{file}").resolve()
    data = bytearray(blob.read_bytes())
    data[-3] ^= 1
    blob.write_bytes(data)
    with pytest.raises(ModelUnavailable, match=rf"{re.escape(file)} is damaged: .*delete that"):
        resolve(HubName.parse(NAME))


def test_a_model_that_is_not_cached_is_unavailable(offline: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"org/absent is not in the local hub cache"):
        resolve(HubName.parse("org/absent"))


def test_offline_means_no_connection_is_tried(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert resolve(HubName.parse(NAME))[1] == REVISION


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("gpt2", "gpt2", None),
        ("openai-community/gpt2", "openai-community/gpt2", None),
        (f"org/name@{REVISION}", "org/name", REVISION),
        ("org/name@refs/pr/1", "org/name", "refs/pr/1"),
    ],
)
def test_a_hub_name_is_read(text: str, repository: str, revision: str | None) -> None:
    assert HubName.parse(text) == HubName(repository, revision)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@main",
        "org/name@",
        "a/b/c",
        "org/../x",
        "../x",
        "org/name@../x",
        "-x",
        "org/name@a@b",
        "org name",
        "org/name\n",
        "http://x/y",
    ],
)
def test_what_can_be_no_hub_name_is_refused_before_it_becomes_a_path(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a model name: .*expected default, planted"):
        HubName.parse(text)
