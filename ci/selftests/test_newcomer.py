"""From a clone to a claim of one's own: the commands of the README and of docs/first-claim.md, run
as they are written. Dependencies are this environment's; nothing is installed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from claimlens.ci.selftests.processes import OUTSIDE_CI, ROOT, Finished

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "first-claim.md").read_text(encoding="utf-8")
IGNORED = (".git", ".venv", ".dev", ".claimlens", "build", "report")
AT_MOST = 5


def prompted(text: str) -> list[str]:
    """The commands that stand behind a prompt in the console blocks of a text."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def newcomer(text: str) -> list[str]:
    """The commands of the block that is marked as the newcomer's."""
    found = re.search(r"^<!-- newcomer -->\n(```console\n.*?^```)", text, re.MULTILINE | re.DOTALL)
    return prompted(found[1]) if found else []


def git(folder: Path, *words: str) -> None:
    author = ("-c", "user.name=n", "-c", "user.email=n@example.org")
    subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True)


def filled(clone: Path) -> None:
    """A .venv that is this environment and counts as filled, so that nothing is installed."""
    (clone / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if not path.name.startswith("filled-"):
            (clone / ".venv" / path.name).symlink_to(path)
    pinned = (clone / "ci" / "constraints.txt", clone / "pyproject.toml")
    whole = b"".join(path.read_bytes() for path in pinned)
    done = subprocess.run(["cksum"], input=whole, capture_output=True, check=True)
    (clone / ".venv" / "filled-dev").write_bytes(done.stdout)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git clone of the files as they are now, committed or not."""
    source, copy = (tmp_path_factory.mktemp(name) / "claimlens" for name in ("source", "clone"))
    source.mkdir()
    for path in ROOT.iterdir():
        if path.name not in IGNORED:
            (source / path.name).symlink_to(path)
    files = subprocess.run(
        ["tar", "-ch", "--exclude=__pycache__", *(p.name for p in source.iterdir())],
        cwd=source, check=True, capture_output=True,
    ).stdout  # fmt: skip
    original = source.parent / "original"
    original.mkdir()
    subprocess.run(["tar", "-x"], cwd=original, input=files, check=True)
    git(original, "init", "-q")
    git(original, "add", "-A")
    git(original, "commit", "-qm", "all")
    git(original.parent, "clone", "-q", str(original), str(copy))
    filled(copy)
    return copy


def run(clone: Path, command: str) -> Finished:
    path = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=clone, text=True, check=False, timeout=500,
        env={**path, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **OUTSIDE_CI},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout)


def test_the_commands_of_the_readme_lead_to_a_claim_that_holds(clone: Path) -> None:
    commands = newcomer(README)
    assert 0 < len(commands) <= AT_MOST
    for command in commands:
        done = run(clone, command)
        assert done.code == 0, f"{command}\n{done.output}"
    assert re.search(r"^holds +default mine/movers-raise-io L2H0", done.output, re.MULTILINE)
    assert not re.search(r"^\w+ +default ioi/", done.output, re.MULTILINE), "other claims ran"


def test_the_page_goes_on_to_a_gate_that_refuses(clone: Path) -> None:
    commands = prompted(PAGE)
    begin = newcomer(README)
    assert commands[: len(begin)] == begin
    done = [run(clone, command) for command in commands[len(begin) :]]
    said = "\n".join(one.output for one in done)
    assert [one.code for one in done] == [1, 0, 0, 0, 0, 10], said
    assert re.search(r"^refuted +planted:no-name-mover mine/movers-raise-io", said, re.MULTILINE)
    assert "REFUSED" in done[-1].output
    assert "broken     mine/movers-raise-io" in done[-1].output
    assert "mine/movers-raise-io" in (clone / "report" / "index.html").read_text(encoding="utf-8")


def test_the_page_shows_the_claim_that_is_copied() -> None:
    example = (ROOT / "docs" / "examples" / "test_movers.py").read_text(encoding="utf-8")
    assert f"```python\n{example.rstrip()}\n```" in PAGE


def test_a_command_that_fails_is_seen(clone: Path) -> None:
    assert run(clone, "cp docs/examples/nothing.py .").code != 0
    assert newcomer(README.replace("<!-- newcomer -->", "")) == []
