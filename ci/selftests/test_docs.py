"""The README does what it says: its examples run, its commands exist, its output is real."""

import re
import shlex
from pathlib import Path

import pytest

from claimlens.ci.selftests.processes import OUTSIDE_CI, ROOT, RunClaims, run_pytest
from claimlens.ci.selftests.suite import run_suite

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def claims_shown() -> list[str]:
    """The Python examples that are claims; test_docs_pages runs the others."""
    return [text for text in blocks("python") if "pytest.mark.claim" in text]


def commands() -> list[str]:
    """Every command that the README shows after a prompt."""
    lines = "\n".join(blocks("console")).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def test_every_python_example_is_a_claim_that_holds(run_claims: RunClaims) -> None:
    examples = {f"test_example_{i}.py": text for i, text in enumerate(claims_shown())}
    assert examples
    done = run_claims(examples)
    assert done.code == 0, done.output
    for name in examples:
        assert re.search(rf"{name} \.+", done.output), f"{name} did not run\n{done.output}"


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("./")])
def test_the_commands_are_there(command: str) -> None:
    script = ROOT / shlex.split(command)[0]
    assert script.stat().st_mode & 0o111, f"{command} cannot be executed"


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("pytest")])
def test_the_pytest_commands_collect(command: str) -> None:
    words = shlex.split(command)[1:]
    done = run_pytest(ROOT, *words, "--collect-only", "-q", path=[], **OUTSIDE_CI)
    assert done.code == 0, done.output
    assert "claims/ioi/test_name_movers.py::" in done.output


def test_every_option_it_names_exists() -> None:
    help_text = run_pytest(ROOT, "--help", path=[]).output
    named = set(re.findall(r"--claims-[a-z]+", README))
    assert named
    assert [option for option in sorted(named) if option not in help_text] == []


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_shown_output_names_the_claims_of_the_suite(tmp_path: Path) -> None:
    """Claim by claim and head by head; the numbers are those of one machine."""
    (shown,) = blocks("text")
    records = run_suite(["default"], tmp_path, "-k", "test_task.py or test_name_movers.py")
    for record in records:
        head = f" {record.head}" if record.head else ""
        line = rf"^{record.verdict}\s+default {record.claim}{head}\b"
        assert re.search(line, shown, re.MULTILINE), f"{record.claim}{head}: {record.verdict}"


def test_a_wrong_example_would_be_noticed(run_claims: RunClaims) -> None:
    broken = claims_shown()[1].replace(">= 0.8", ">= 1.1")
    assert run_claims({"test_example.py": broken}).code == 1


def models(text: str) -> set[str]:
    """The first cells of the table of what `--claims-model` may be."""
    table = text.partition("| `--claims-model` |")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))


def test_the_page_on_models_names_those_of_the_readme() -> None:
    named = models(README)
    assert len(named) > 5
    assert models((ROOT / "docs" / "models.md").read_text(encoding="utf-8")) == named
