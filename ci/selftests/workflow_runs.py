"""The templates of ci/workflows, run step by step as their CI would: so much of it as they use.

A `run:` block is a bash process in an environment that holds nothing else; an action is only noted.
"""

from __future__ import annotations

import re
import string
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from claimlens.ci.selftests.processes import ROOT

TEMPLATES = ROOT / "ci" / "workflows"
GITHUB = sorted((TEMPLATES / "github").glob("*.yml"))
GITLAB = TEMPLATES / "gitlab" / ".gitlab-ci.yml"
CALLED = "./.github/workflows/"
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_TOKEN = re.compile(r"'[^']*'|always\(\)|[A-Za-z_][\w-]*(?:\.[\w-]+)+|&&|\|\||!=|==|[!()]")
_WORDS = {"&&": " and ", "||": " or ", "!": " not ", "always()": "True"}


def load(path: Path) -> dict[str, Any]:
    """A template as data; `on` is a word, as in YAML 1.2."""
    found: dict[str, Any] = YAML(typ="safe").load(path)
    return found


class Context(dict[str, str]):
    """What expressions may name; a name that nothing declares is an error."""

    def __missing__(self, name: str) -> str:
        raise AssertionError(f"an expression names {name}, which nothing declares")

    def text(self, value: object) -> str:
        """A value of the template, its expressions replaced."""
        plain = str(value).lower() if isinstance(value, bool) else str(value)
        return _EXPRESSION.sub(lambda found: self[found[1]], plain)

    def holds(self, condition: str) -> bool:
        """Whether an `if:` holds."""
        tokens = _TOKEN.findall(condition)
        assert "".join(tokens) == condition.replace(" ", ""), f"not understood: {condition}"
        named = [repr(self[t]) if t[0].isalpha() and t not in _WORDS else t for t in tokens]
        return bool(eval("".join(_WORDS.get(token, token) for token in named)))


@dataclass(frozen=True)
class Step:
    """What became of one step: `code` is None where it ran nothing."""

    name: str
    code: int | None = None
    output: str = ""
    uses: str = ""


@dataclass
class Job:
    """What became of one job: its steps that were reached, and its outputs."""

    steps: list[Step] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def code(self) -> int:
        """The first exit code that is not 0, with which the job failed."""
        return next((step.code for step in self.steps if step.code), 0)

    @property
    def output(self) -> str:
        return "".join(step.output for step in self.steps)

    @property
    def reached(self) -> set[str]:
        """The names of its steps and actions that were reached."""
        return {step.name for step in self.steps}


@dataclass(frozen=True)
class Machine:
    """A repository, and an environment in which a shell starts."""

    repository: Path
    environment: Mapping[str, str]

    def shell(self, script: str, environment: Mapping[str, str], *flags: str) -> tuple[int, str]:
        """Run a script with bash; its exit code, and all that it printed."""
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", *flags, "-c", script],
            cwd=self.repository,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout


@dataclass(frozen=True)
class GitHub:
    """A machine of GitHub's: the secrets of the repository, and the event's file."""

    machine: Machine
    secrets: Mapping[str, str] = field(default_factory=dict)
    event: Path = Path("event.json")

    def run(self, name: str) -> dict[str, Job]:
        """Run a workflow of the repository; those of its jobs that were started, by name."""
        workflow = load(self.machine.repository / ".github" / "workflows" / name)
        context = Context({f"secrets.{key}": text for key, text in self.secrets.items()})
        found: dict[str, Job] = {}
        for key, job in workflow["jobs"].items():
            needed = [found[need] for need in _listed(job.get("needs", []))]
            if any(need.code for need in needed):
                continue
            run = self._called if "uses" in job else self._job
            found[key] = run(job, context)
            context |= {f"needs.{key}.outputs.{n}": v for n, v in found[key].outputs.items()}
        return found

    def _called(self, job: Mapping[str, Any], context: Context) -> Job:
        """A job that is another workflow of one job."""
        name = job["uses"].removeprefix(CALLED)
        called = load(self.machine.repository / ".github" / "workflows" / name)
        declared = called["on"]["workflow_call"]
        given = {key: context.text(value) for key, value in job["with"].items()}
        passed = {key: context.text(value) for key, value in job["secrets"].items()}
        assert set(given) <= set(declared["inputs"])
        assert set(passed) <= set(declared["secrets"])
        defaults = {key: each.get("default") for key, each in declared["inputs"].items()}
        inputs = defaults | given
        assert None not in inputs.values(), f"an input of {name} is missing"
        (only,) = called["jobs"].values()
        own = {f"inputs.{key}": str(value) for key, value in inputs.items()}
        return self._job(only, Context(own | {f"secrets.{k}": v for k, v in passed.items()}))

    def _job(self, job: Mapping[str, Any], context: Context) -> Job:
        """Run the steps of a job, until one fails and after it those that always run."""
        done = Job()
        for step in job["steps"]:
            name = step.get("name") or step["uses"].partition("@")[0]
            condition = step.get("if", "")
            wanted = (not done.code or "always()" in condition) and (
                not condition or context.holds(condition)
            )
            outcome = Step(name, uses=step.get("uses", ""))
            if wanted and "run" in step:
                outcome = self._step(name, step, context)
            if wanted:
                done.steps.append(outcome)
            if "id" in step:
                word = "failure" if outcome.code else "success"
                context[f"steps.{step['id']}.outcome"] = word if wanted else "skipped"
        if not done.code:
            done.outputs = {key: context.text(v) for key, v in job.get("outputs", {}).items()}
        return done

    def _step(self, name: str, step: Mapping[str, Any], context: Context) -> Step:
        output = self.machine.repository.parent / "output"
        output.write_text("")
        environment = {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_PATH": str(self.event),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(output.with_name("summary.md")),
            **{key: context.text(value) for key, value in step.get("env", {}).items()},
        }
        code, printed = self.machine.shell(step["run"], environment)
        for line in output.read_text().splitlines():
            key, _, value = line.partition("=")
            context[f"steps.{step['id']}.outputs.{key}"] = value
        return Step(name, code, printed)


def gitlab_job(machine: Machine, name: str, variables: Mapping[str, str]) -> Job:
    """Run a job of .gitlab-ci.yml; `variables` are those of the project and of the event."""
    template = load(machine.repository / ".gitlab-ci.yml")
    job = template[name]
    base = template[job["extends"]]
    given = {**template["variables"], **base["variables"], **job["variables"], **variables}
    environment = {"CI": "true", "GITLAB_CI": "true", "CI_PROJECT_DIR": str(machine.repository)}
    for key, value in given.items():
        environment[key] = string.Template(value).safe_substitute(environment)
    lines = [*(base | job)["before_script"], *(base | job)["script"]]
    return Job([Step(name, *machine.shell("\n".join(lines), environment, "-o", "pipefail"))])


def run_blocks() -> Iterator[tuple[str, str]]:
    """Every `run:` of the GitHub templates: the file's name and the step's."""
    for path in GITHUB:
        for job in load(path)["jobs"].values():
            for step in job.get("steps", []):
                if "run" in step:
                    yield path.name, step["name"]


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names
