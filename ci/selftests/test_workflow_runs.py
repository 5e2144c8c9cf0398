"""Every script of the CI templates, run in a clean shell, up to each decision of the gate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from claimlens.ci.github import MOST
from claimlens.ci.selftests.user_repository import ABSENT, ACCEPTED, MODEL, WORSE, Hub, machine
from claimlens.ci.selftests.workflow_runs import (
    GitHub,
    Job,
    Machine,
    gitlab_job,
    load,
    run_blocks,
)

SECRET = "correct horse battery staple"
RESOLVE, GATE = "Find the revision", "Compare with the baseline"
KEEP = "Keep the results, whatever was decided"
SECRETS = {"HF_TOKEN": "", "CLAIMS_SECRET": SECRET}


@pytest.fixture(scope="module")
def hub() -> Hub:
    return Hub({"main": ACCEPTED})


@pytest.fixture(scope="module")
def begun(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A user's repository, after its first commands: a baseline, and the run that it is from."""
    with hub.served() as address:
        made = machine(tmp_path_factory.mktemp("user"), address)
        code, output = made.shell(
            f"python -m pytest claims --claims-model={MODEL}@{ACCEPTED} --claims-baseline=create "
            "--claims-reason=first",
            {},
        )
        assert code == 0, output
        yield made


@pytest.fixture
def here(begun: Machine, tmp_path: Path) -> Machine:
    """The same, checked out anew."""
    return checked_out(begun, tmp_path)


def checked_out(begun: Machine, folder: Path, keep_runs: bool = True) -> Machine:
    repository = Path(shutil.copytree(begun.repository, folder / "repository"))
    if not keep_runs:
        shutil.rmtree(repository / ".claimlens")
    return replace(begun, repository=repository)


def event(here: Machine, **changes: str) -> Path:
    """The file of an event as a relay sends it, or almost."""
    sent = {"model": MODEL, "revision": ABSENT, "secret": SECRET, **changes}
    path = here.repository.parent / "event.json"
    path.write_text(json.dumps({"action": "claims", "client_payload": sent}))
    return path


def gate_of(jobs: dict[str, Job]) -> Job:
    return jobs["claims"]


# --- GitHub --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def accepted(begun: Machine, tmp_path_factory: pytest.TempPathFactory) -> tuple[Machine, Job]:
    """A pull request that changes nothing, in a repository without runs."""
    here = checked_out(begun, tmp_path_factory.mktemp("accepted"), keep_runs=False)
    return here, gate_of(GitHub(here, SECRETS).run("claims-pull-request.yml"))


@pytest.fixture(scope="module")
def refused(
    begun: Machine, hub: Hub, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Machine, Job]:
    """A scheduled run after the model got worse; the accepted one is measured once more."""
    here = checked_out(begun, tmp_path_factory.mktemp("refused"), keep_runs=False)
    hub.branches["main"] = WORSE
    job = gate_of(GitHub(here, SECRETS).run("claims-schedule.yml"))
    hub.branches["main"] = ACCEPTED
    return here, job


@pytest.fixture(scope="module")
def unclear(begun: Machine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """An event about a revision that cannot be had."""
    here = checked_out(begun, tmp_path_factory.mktemp("unclear"))
    return GitHub(here, SECRETS, event(here)).run("claims-dispatch.yml")


def test_a_pull_request_that_changes_nothing_is_accepted(accepted: tuple[Machine, Job]) -> None:
    job = accepted[1]
    assert job.code == 0, job.output
    assert f"{ACCEPTED} is the accepted revision" in job.output
    assert "): accepted" in job.output
    assert "::error" not in job.output
    assert {RESOLVE, GATE, KEEP} <= job.reached


def test_a_worse_revision_is_refused_and_its_results_are_kept(
    refused: tuple[Machine, Job],
) -> None:
    job = refused[1]
    assert job.code == 10, job.output
    assert f"{WORSE} is not accepted: the baseline holds {ACCEPTED}" in job.output
    assert f"gate: measuring the accepted model, {MODEL}@{ACCEPTED}" in job.output
    assert "): REFUSED" in job.output
    assert {GATE, KEEP} <= job.reached
    told = [line for line in job.output.splitlines() if line.startswith("::")]
    assert "::error title=broken%3A copy/head L0H0" in job.output
    assert 0 < len(told) <= MOST


def test_not_enough_evidence_is_an_exit_code_of_its_own(unclear: dict[str, Job]) -> None:
    job = gate_of(unclear)
    assert job.code == 11, job.output
    assert unclear["event"].outputs == {"model": f"{MODEL}@{ABSENT}"}
    assert {GATE, KEEP} <= job.reached


def test_what_is_uploaded_is_there(
    accepted: tuple[Machine, Job], refused: tuple[Machine, Job]
) -> None:
    """Each line of the artifact's `path` finds files; JUnit's file is one; the summary is short."""
    (gate,) = load(refused[0].repository / ".github/workflows/claims-gate.yml")["jobs"].values()
    (upload,) = [step for step in gate["steps"] if step.get("name") == KEEP]
    for here, _ in (accepted, refused):
        for pattern in upload["with"]["path"].split():
            assert list(here.repository.glob(pattern)), pattern
        assert ElementTree.parse(here.repository / "claims.xml").getroot().tag == "testsuites"
        summary = (here.repository.parent / "summary.md").read_bytes()
        assert summary.startswith(b"## Gate: org/micro")
        assert len(summary) < 900_000


def test_every_script_of_the_templates_was_run(
    accepted: tuple[Machine, Job], refused: tuple[Machine, Job], unclear: dict[str, Job]
) -> None:
    jobs = [accepted[1], refused[1], *unclear.values()]
    ran = {step.name for job in jobs for step in job.steps if step.code is not None}
    assert {name for _, name in run_blocks()} == ran


def test_nothing_is_compared_where_the_hub_has_the_accepted_revision(here: Machine) -> None:
    job = gate_of(GitHub(here, SECRETS).run("claims-schedule.yml"))
    assert job.code == 0, job.output
    assert f"{ACCEPTED} is the accepted revision: nothing to do" in job.output
    assert RESOLVE in job.reached
    assert not {GATE, KEEP} & job.reached


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"secret": "wrong"}, "the event's secret is not the one that is kept here"),
        ({"revision": ABSENT[1:]}, f"'{ABSENT[1:]}' is no revision; expected 40 hex"),
        ({"model": "org/other"}, "'org/other' is none of the hub models that have a baseline"),
    ],
)
def test_an_event_that_fails_its_check_starts_no_gate(
    here: Machine, changes: dict[str, str], told: str
) -> None:
    jobs = GitHub(here, SECRETS, event(here, **changes)).run("claims-dispatch.yml")
    assert list(jobs) == ["event"]
    assert jobs["event"].code == 2
    assert told in jobs["event"].output


def test_without_the_secret_no_event_is_followed(here: Machine) -> None:
    bare = {"HF_TOKEN": "", "CLAIMS_SECRET": ""}
    jobs = GitHub(here, bare, event(here, secret="")).run("claims-dispatch.yml")
    assert list(jobs) == ["event"]
    assert "CLAIMS_SECRET holds no secret" in jobs["event"].output


def test_requirements_that_cannot_be_met_start_no_gate(here: Machine) -> None:
    (here.repository / "requirements.txt").write_text("claimlens\nno-such-distribution-of-ours\n")
    job = gate_of(GitHub(here, SECRETS).run("claims-schedule.yml"))
    assert job.code == 1
    assert not {RESOLVE, GATE, KEEP} & job.reached


# --- GitLab --------------------------------------------------------------------------------------


def payload(here: Machine, **changes: str) -> dict[str, str]:
    """The variables of a pipeline that a trigger started: GitLab hands over the body as it came."""
    sent = json.loads(event(here, **changes).read_text())["client_payload"]
    path = here.repository.parent / "payload"
    path.write_text(json.dumps(sent | {"id": "1", "ref": "main", "variables": {}}))
    return {"TRIGGER_PAYLOAD": str(path), "CLAIMS_SECRET": SECRET}


@pytest.mark.parametrize("decision", [0, 10, 11])
def test_gitlab_passes_each_decision_on(decision: int, here: Machine) -> None:
    """With a stand-in for pytest that says what it was given, and decides."""
    stand_in = here.repository.parent / "python"
    stand_in.write_text(f'#!/bin/sh\necho "$@"\n[ "$2" = pip ] || exit {decision}\n')
    stand_in.chmod(0o755)
    path = f"{stand_in.parent}:{here.environment['PATH']}"
    deciding = replace(here, environment={**here.environment, "PATH": path})
    job = gitlab_job(deciding, "claims-merge-request", {})
    assert job.code == decision, job.output
    assert "-m pip install --requirement requirements.txt\n" in job.output
    model = f"--claims-model={MODEL}@{ACCEPTED}"
    assert f"-m pytest claims {model} --claims-gate=enforce --junitxml=claims.xml" in job.output


def test_gitlab_looks_at_what_the_hub_has_now(here: Machine, hub: Hub) -> None:
    held = gitlab_job(here, "claims-schedule", {})
    assert held.code == 0, held.output
    assert not (here.repository / "claims.xml").exists()
    hub.branches["main"] = ABSENT
    absent = gitlab_job(here, "claims-schedule", {})
    hub.branches["main"] = ACCEPTED
    assert absent.code == 11, absent.output
    assert ": NOT ENOUGH EVIDENCE" in absent.output
    kept = load(here.repository / ".gitlab-ci.yml")[".claims"]["artifacts"]
    for pattern in [*kept["paths"], kept["reports"]["junit"]]:
        assert list(here.repository.glob(pattern)), pattern


def test_gitlab_follows_an_event_that_is_checked(here: Machine) -> None:
    held = gitlab_job(here, "claims-dispatch", payload(here, revision=ACCEPTED))
    assert held.code == 0, held.output
    assert f"{ACCEPTED} is the accepted revision: nothing to do" in held.output
    for changes in ({"secret": "wrong"}, {"revision": ABSENT[1:]}):
        job = gitlab_job(here, "claims-dispatch", payload(here, **changes))
        assert job.code == 2, job.output
        assert "gate:" not in job.output
