"""What became of the findings since a baseline, from the runs that a store holds.

As the gate says it, measuring nothing: what the gate measured again lies in the store as well.
"""

from __future__ import annotations

from claimlens.ci.baseline import Baseline
from claimlens.ci.gate import Decision, Finding, Measured, decide, judge, not_comparable
from claimlens.ci.gate_moves import moved
from claimlens.ci.gate_run import Result
from claimlens.ci.report.overview import Baselines
from claimlens.ci.report.study import Study
from claimlens.ci.run_files import StoredRun
from claimlens.ci.sides import TRIED, accepted_in, tried_in, with_heads


def compared(study: Study, baselines: Baselines) -> list[Result]:
    """A result for each model that has a baseline and is not the accepted model itself."""
    found = []
    for model in study.models:
        baseline = baselines.get(model.partition("@")[0])
        if baseline is not None and _revision(study, model) != baseline.revision:
            found.append(_result(study, model, baseline))
    return found


def _result(study: Study, model: str, baseline: Baseline) -> Result:
    new, revision = _now(study, model), _revision(study, model)
    if apart := not_comparable(baseline, new):
        fault = f"not comparable with the baseline until it is made anew: {apart}"
        return Result(model, Decision.UNCLEAR, (), fault, baseline.revision, revision)
    old = _accepted(study, baseline)
    findings = judge(baseline, old, new)
    if old is not None:
        findings = _moved(study, model, findings, new, old)
    return Result(model, decide(findings), tuple(findings), "", baseline.revision, revision)


def _now(study: Study, model: str) -> Measured:
    """The newest records of a model, with the prompts of all runs that they come from."""
    mine = [r for r in study.results() if r.record.model_name == model]
    prompts = {digest: p for result in mine for digest, p in result.run.prompts.items()}
    return Measured.of([result.record for result in mine], prompts, model)


def _revision(study: Study, model: str) -> str:
    """The newest weights of a model; empty where it could not be loaded."""
    found = (r.revision for r in study.results() if r.record.model_name == model)
    return next(filter(None, found), "")


def _accepted(study: Study, baseline: Baseline) -> Measured | None:
    """The accepted model's values: the baseline's own run, or else the newest that has them."""
    own = [run for run in study.runs if run.id == baseline.run]
    for run in (*own, *reversed(study.runs)):
        if found := accepted_in(run, baseline):
            return found
    return None


def _moved(
    study: Study, model: str, findings: list[Finding], new: Measured, old: Measured
) -> list[Finding]:
    findings = moved(findings, with_heads(new), old)
    tried = _tried(study, model)
    return moved(findings, tried_in(tried), old) if tried else findings


def _tried(study: Study, model: str) -> StoredRun | None:
    """The newest run in which other heads of the same weights were tried."""
    name, revision = f"{model}{TRIED}", _revision(study, model)
    for run in study.runs[::-1]:
        if any(r.model_name == name and r.model.get("revision") == revision for r in run.records):
            return run
    return None
