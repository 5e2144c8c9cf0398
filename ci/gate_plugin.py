"""Baselines and the gate in pytest: what follows from a run, once all of it is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from claimlens.ci.gate import Decision
    from claimlens.ci.gate_run import Result
    from claimlens.ci.intents import Intent
    from claimlens.ci.keeper import Keeper

INTENT: pytest.StashKey[Any] = pytest.StashKey()
CI = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "JENKINS_URL", "TF_BUILD")
"""Environment variables by which a machine says that nobody sits before it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of what follows from a run."""
    group = parser.getgroup("claims", "claimlens: findings about models as tests")
    group.addoption(
        "--claims-gate",
        choices=("report", "enforce"),
        help="compare with the baseline; under enforce the exit code is the decision: 0 accepted, "
        "10 refused, 11 not enough evidence",
    )
    group.addoption(
        "--claims-gate-old",
        metavar="NAME",
        default="",
        help="the accepted model, should its values have to be measured again",
    )
    group.addoption(
        "--claims-baselines",
        metavar="DIR",
        help="folder of the baselines (default: claims/baselines in the root directory)",
    )
    group.addoption(
        "--claims-baseline",
        choices=("create", "accept", "update", "trim"),
        help="change the baseline from this run: all verdicts of a first run, those named by "
        "--claims-accept, all of them again, or forget claims that are no more",
    )
    group.addoption("--claims-reason", metavar="TEXT", default="", help="why; kept in the baseline")
    group.addoption(
        "--claims-accept",
        metavar="ID",
        action="append",
        default=[],
        help="a claim whose new verdict is right: its id, or its id and head; repeatable",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse an intent that can't be, before anything is measured."""
    if hasattr(config, "workerinput"):
        return
    if config.getoption("claims_gate") == "enforce":
        check_commits(config.getoption("claims_model", None) or [])
    if not config.getoption("claims_baseline"):
        return
    from claimlens.ci.baseline import BadBaseline
    from claimlens.ci.intents import Intent

    if config.getoption("claims_gate"):
        raise pytest.UsageError(
            "--claims-gate would compare this run with the baseline that --claims-baseline makes "
            "of it; give one of them"
        )
    found = [name for name in CI if os.environ.get(name, "").lower() not in ("", "false", "0")]
    if found:
        raise pytest.UsageError(
            f"--claims-baseline: baselines are changed by people, never in CI ({found[0]} is set)"
        )
    try:
        config.stash[INTENT] = Intent(
            config.getoption("claims_baseline"),
            config.getoption("claims_reason"),
            tuple(config.getoption("claims_accept")),
        )
    except BadBaseline as error:
        raise pytest.UsageError(str(error)) from error


def check_commits(models: Sequence[str]) -> None:
    """Raise UsageError where a hub model is not named at a commit."""
    from claimlens.ci.model_names import is_commit, is_local

    for name in models:
        if not is_local(name) and not is_commit(name):
            raise pytest.UsageError(
                f"--claims-gate enforce: {name} names no commit, so that what was decided may be "
                f"something else tomorrow; say {name.partition('@')[0]}@<40 hex>"
            )


@dataclass
class Followed:
    """What followed from a run: lines to print, and what the gate said of each model."""

    lines: list[str] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)


def follow(session: pytest.Session, keeper: Keeper, lost: Sequence[str]) -> Followed:
    """Change the baseline or gate, as was asked. Sets the exit status.

    `lost` are tests that a worker of xdist did not survive, and that nobody ran again.
    """
    config, found = session.config, Followed()
    told = found.lines
    if intent := config.stash.get(INTENT, None):
        partial = _partial(session, lost) or keeper.fault
        told += _change(session, keeper, intent, partial)
    mode, status = config.getoption("claims_gate"), int(session.exitstatus)
    if mode and status not in (0, 1):
        told.append(f"gate: no decision: pytest ended with exit code {status}")
    elif mode:
        decision = _decided(config, keeper, found)
        if mode == "enforce":
            session.exitstatus = int(decision)
    return found


def _decided(config: pytest.Config, keeper: Keeper, found: Followed) -> Decision:
    """What follows for all models together; what the gate says of each is added."""
    from claimlens.ci.gate import Decision, worst
    from claimlens.ci.gate_text import lines

    if keeper.fault:
        found.lines.append("gate: not enough evidence: the results could not be kept")
        return Decision.UNCLEAR
    found.results = _gate(config, keeper, found.lines)
    found.lines += [line for result in found.results for line in lines(result)]
    return worst([result.decision for result in found.results])


def _gate(config: pytest.Config, keeper: Keeper, told: list[str]) -> list[Result]:
    from claimlens.ci.gate_run import Gate
    from claimlens.ci.keeper import store_of
    from claimlens.ci.measuring_again import Again

    store = store_of(config)
    gate = Gate(
        folder_of(config), store, Again.of(config, store), told.append,
        config.getoption("claims_gate_old"),
    )  # fmt: skip
    return [gate.result(name, _of(keeper, name), keeper.prompts) for name in _models(keeper)]


def _change(session: pytest.Session, keeper: Keeper, intent: Intent, partial: str) -> list[str]:
    from claimlens.ci.baseline import BadBaseline, Baseline, baseline_path
    from claimlens.ci.intents import Run, changed

    config, told = session.config, list[str]()
    for name in _models(keeper):
        path = baseline_path(folder_of(config), name)
        try:
            before = Baseline.of(folder_of(config), name) if path.exists() else None
            run = Run(keeper.path.stem, name, _of(keeper, name), paths_of(config), partial)
            changed(before, run, intent).save(path)
            told.append(f"baseline: {intent.word} {path}")
        except (BadBaseline, OSError) as error:
            told.append(f"baseline: not changed: {error}")
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
    return told


def folder_of(config: pytest.Config) -> Path:
    """The folder of the baselines."""
    given = config.getoption("claims_baselines")
    return Path(given) if given else config.rootpath / "claims" / "baselines"


def paths_of(config: pytest.Config) -> tuple[str, ...]:
    """What pytest was given to collect, from the root directory."""
    root, start = config.rootpath, Path(config.invocation_params.dir)
    named = [(start / arg.partition("::")[0]).resolve() for arg in config.args]
    return tuple(
        p.relative_to(root).as_posix() if p.is_relative_to(root) else str(p) for p in named
    )


def _partial(session: pytest.Session, lost: Sequence[str]) -> str:
    """Why a run is only a part of the suite; empty where it is the whole."""
    option = session.config.option
    narrowed: Mapping[str, object] = {
        "-k": option.keyword,
        "-m": option.markexpr,
        "--deselect": option.deselect,
        "--lf": getattr(option, "lf", False),
        "--sw": getattr(option, "stepwise", False),
        "a test's name": any("::" in arg for arg in session.config.args),
    }
    for name, given in narrowed.items():
        if given:
            return f"this one was narrowed by {name}"
    if lost:
        return f"a worker died while it ran {lost[0]}"
    if int(session.exitstatus) not in (0, 1) or session.shouldstop or session.shouldfail:
        return "this one was cut short"
    return ""


def _models(keeper: Keeper) -> list[str]:
    return list(dict.fromkeys(r.model_name for r in keeper.records))


def _of(keeper: Keeper, name: str) -> list[Any]:
    return [record for record in keeper.records if record.model_name == name]
