"""The CI templates as texts: valid, pinned, with few rights; each check finds what it is for."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claimlens.ci.selftests.user_repository import copy_templates
from claimlens.ci.selftests.workflow_runs import (
    GITHUB,
    GITLAB,
    GitHub,
    Job,
    Machine,
    gitlab_job,
    load,
)

PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
CALLER = "claims-gate.yml"
# `./` for a workflow of the same repository is what every server and runner knows
ZIZMOR = "rules:\n  self-repository:\n    disable: true\n"
SECRETS = {"HF_TOKEN": "", "CLAIMS_SECRET": ""}
Check = Callable[[Path], str]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of a user's that holds the templates and nothing else."""
    copy_templates(tmp_path / "repository")
    return tmp_path / "repository"


def workflows(repository: Path) -> list[Path]:
    return sorted((repository / ".github" / "workflows").iterdir())


# --- the checks: what they find, "" where all is well --------------------------------------------


def schemas(repository: Path) -> str:
    """The published schemas of both, as check-jsonschema carries them."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    github = [*check, "vendor.github-workflows", *map(str, workflows(repository))]
    gitlab = [*check, "vendor.gitlab-ci", "--data-transform", "gitlab-ci"]
    return printed(github) + printed([*gitlab, str(repository / GITLAB.name)])


def zizmor(repository: Path) -> str:
    """What is known to go wrong with workflows, as zizmor sees it offline."""
    config = repository.parent / "zizmor.yml"
    config.write_text(ZIZMOR)
    tool = Path(sys.executable).with_name("zizmor")
    options = ["--offline", "--no-progress", "--persona", "pedantic", "--config", str(config)]
    return printed([str(tool), *options, str(repository)])


def printed(command: list[str]) -> str:
    """What a command printed, if it ended with another code than 0."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def house(repository: Path) -> str:
    """What both leave open: versions beside pins, scripts without expressions, limits."""
    return "\n".join(fault for path in workflows(repository) for fault in _faults(path))


def _faults(path: Path) -> Iterator[str]:
    text, workflow = path.read_text(), load(path)
    for used in re.findall(r"uses: (.*)", text):
        if not used.startswith("./") and not PINNED.fullmatch(used):
            yield f"{path.name}: {used} is not pinned to a commit, with its version beside it"
    if workflow["permissions"] != {}:
        yield f"{path.name} gives rights to every job"
    if "workflow_call" not in workflow["on"] and "concurrency" not in workflow:
        yield f"{path.name} may run many times at once"
    for name, job in workflow["jobs"].items():
        if job["permissions"] != {"contents": "read"}:
            yield f"{path.name}: {name} may do more than read"
        if "steps" in job and not 0 < job.get("timeout-minutes", 0) <= 120:
            yield f"{path.name}: {name} may hang"
        for step in job.get("steps", []):
            if "${{" in step.get("run", ""):
                yield f"{path.name}: {step['name']} puts an expression into a script"
            if "checkout" in step.get("uses", "") and step["with"]["persist-credentials"]:
                yield f"{path.name}: {name} keeps its token where a script can read it"


def gitlab(repository: Path) -> str:
    """GitLab's jobs: limits, results that are kept, and what starts each."""
    template = load(repository / GITLAB.name)
    base, faults = template[".claims"], []
    if base.get("timeout") != "2 hours":
        faults.append("a job may hang")
    if base["artifacts"].get("when") != "always":
        faults.append("results of a refused model are lost")
    if "junit" not in base["artifacts"].get("reports", {}):
        faults.append("no JUnit report")
    sources = re.findall(r'CI_PIPELINE_SOURCE == "(\w+)"', (repository / GITLAB.name).read_text())
    if sources != ["merge_request_event", "schedule", "trigger"]:
        faults.append(f"started by {sources}")
    return "\n".join(faults)


CHECKS: tuple[Check, ...] = (schemas, zizmor, house, gitlab)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_templates_pass(check: Check, repository: Path) -> None:
    assert check(repository) == ""


CHECKOUT = "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2"
RUN = 'claimlens dispatch "$GITHUB_EVENT_PATH"'
INJECTED = 'claimlens dispatch "${{ github.event.client_payload.model }}"'
RED = [
    (zizmor, "claims-gate.yml", CHECKOUT, "actions/checkout@v6", "unpinned-uses"),
    (house, "claims-gate.yml", CHECKOUT, "actions/checkout@v6.0.2", "is not pinned"),
    (house, "claims-gate.yml", CHECKOUT, CHECKOUT.partition(" ")[0], "is not pinned"),
    (house, "claims-gate.yml", "ce83dd", "ce83d", "is not pinned"),
    (zizmor, "claims-dispatch.yml", RUN, INJECTED, "template-injection"),
    (house, "claims-dispatch.yml", RUN, INJECTED, "puts an expression into a script"),
    (house, "claims-gate.yml", '-- "$MODEL"', "-- ${{ inputs.model }}", "puts an expression"),
    (house, "claims-gate.yml", "credentials: false", "credentials: true", "keeps its token"),
    (zizmor, "claims-schedule.yml", "permissions: {}", "permissions: write-all", "permissions"),
    (house, "claims-schedule.yml", "permissions: {}", "permissions: read-all", "gives rights"),
    (house, "claims-gate.yml", "contents: read", "contents: write", "may do more than read"),
    (zizmor, "claims-pull-request.yml", "pull_request:", "pull_request_target:", "dangerous"),
    (zizmor, "claims-schedule.yml", "secrets:\n      HF_", "secrets: inherit\n    #", "inherit"),
    (house, "claims-schedule.yml", "concurrency:", "env:", "may run many times at once"),
    (house, "claims-dispatch.yml", "timeout-minutes: 20", "timeout-minutes: 400", "may hang"),
    (schemas, "claims-gate.yml", "runs-on:", "run-on:", "run-on"),
    (schemas, "claims-schedule.yml", "schedule:\n", "schedul:\n", "schedul"),
    (schemas, ".gitlab-ci.yml", "interruptible: true", "interruptible: often", "often"),
    (gitlab, ".gitlab-ci.yml", "when: always", "when: on_success", "are lost"),
    (gitlab, ".gitlab-ci.yml", "timeout: 2 hours", "timeout: 2 weeks", "may hang"),
    (gitlab, ".gitlab-ci.yml", "junit: claims.xml", "dotenv: claims.xml", "no JUnit report"),
    (gitlab, ".gitlab-ci.yml", '"trigger"', '"push"', "started by"),
]


def mutate(repository: Path, name: str, old: str, new: str) -> None:
    """Change a copied template, everywhere where the old text stands."""
    folder = repository if name == GITLAB.name else repository / ".github" / "workflows"
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(("check", "name", "old", "new", "told"), RED)
def test_the_check_finds_a_fault(
    check: Check, name: str, old: str, new: str, told: str, repository: Path
) -> None:
    mutate(repository, name, old, new)
    assert told in check(repository)


# --- what follows from an exit code, with stand-ins for what the scripts call --------------------


def standing_in(repository: Path, claimlens: int = 0, python: int = 0) -> Machine:
    """A machine whose `claimlens` names a model and whose `python` is pip and pytest, or fail."""
    programs = {
        "claimlens": f"echo org/micro@{'1' * 40}\nexit {claimlens}",
        "python": f'[ "$2" = pip ] && exit 0\nexit {python}',
    }
    folder = repository.parent / "bin"
    folder.mkdir()
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return Machine(repository, {"PATH": f"{folder}:/usr/bin:/bin"})


def on_github(here: Machine) -> Job:
    return GitHub(here, SECRETS).run("claims-schedule.yml")["claims"]


def refused_and_kept(here: Machine) -> bool:
    """Whether a refusal is the job's exit code, and its results are uploaded."""
    job = on_github(here)
    return job.code == 10 and "Keep the results, whatever was decided" in job.reached


def fault_stops(here: Machine) -> bool:
    """Whether nothing is compared where no revision was found, on both."""
    job = on_github(here)
    on_gitlab = gitlab_job(here, "claims-schedule", {})
    return job.code == 2 == on_gitlab.code and "Compare with the baseline" not in job.reached


def refused_on_gitlab(here: Machine) -> bool:
    return gitlab_job(here, "claims-merge-request", {}).code == 10


BEHAVIOURS = [
    (refused_and_kept, 0, CALLER, "if: always() && ", "if: "),
    (refused_and_kept, 0, CALLER, "--junitxml=claims.xml", "--junitxml=claims.xml || true"),
    (refused_on_gitlab, 0, ".gitlab-ci.yml", "xml\n  artifacts", "xml || true\n  artifacts"),
    (fault_stops, 2, CALLER, 'model="$(claim', 'echo "model=$(claim'),
    (fault_stops, 2, ".gitlab-ci.yml", 'model="$(claim', 'export model="$(claim'),
]


@pytest.mark.parametrize(("behaves", "fault", "name", "old", "new"), BEHAVIOURS)
def test_an_exit_code_is_passed_on_and_a_template_that_swallows_it_is_noticed(
    behaves: Callable[[Machine], bool], fault: int, name: str, old: str, new: str, repository: Path
) -> None:
    here = standing_in(repository, claimlens=fault, python=10)
    assert behaves(here)
    mutate(repository, name, old, new)
    assert not behaves(here)


def test_an_expression_that_names_nothing_is_noticed(repository: Path) -> None:
    here = standing_in(repository)
    assert on_github(here).code == 0
    mutate(repository, "claims-gate.yml", "inputs.accepted", "inputs.acepted")
    with pytest.raises(AssertionError, match=r"names inputs\.acepted, which nothing declares"):
        on_github(here)


def test_there_are_templates() -> None:
    assert [path.name for path in GITHUB] == [
        "claims-dispatch.yml", "claims-gate.yml", "claims-pull-request.yml", "claims-schedule.yml",
    ]  # fmt: skip
