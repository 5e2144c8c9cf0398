"""One gate, from a finished run to its findings: whatever it lacks it looks for or measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from claimlens.ci.baseline import BadBaseline, Baseline
from claimlens.ci.collecting import nothing_collected
from claimlens.ci.gate import Decision, Finding, Measured, decide, judge, not_comparable
from claimlens.ci.gate_moves import is_lost, moved
from claimlens.ci.measuring_again import Again, NotAgain
from claimlens.ci.model_names import is_hash, is_local
from claimlens.ci.run_files import NoRun, StoredRun, lines_of, read_run, run_files
from claimlens.ci.sides import TRIED, accepted_in, is_accepted, tried_in, with_heads
from claimlens.circuits.record import ClaimRecord, PromptsRecord

Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What the gate says of one model: findings, or a fault that left it without any."""

    model: str
    decision: Decision
    findings: tuple[Finding, ...] = ()
    fault: str = ""
    old: str = ""
    new: str = ""


@dataclass(frozen=True)
class Gate:
    """The gate of a run: where baselines and runs lie, what to measure with, whom to tell."""

    baselines: Path
    store: Path
    again: Again
    say: Say
    old_model: str = ""

    def result(
        self, model: str, records: Sequence[ClaimRecord], prompts: Mapping[str, PromptsRecord]
    ) -> Result:
        """What became of a model's findings since its baseline."""
        with nothing_collected():
            return self._result(model, records, prompts)

    def _result(
        self, model: str, records: Sequence[ClaimRecord], prompts: Mapping[str, PromptsRecord]
    ) -> Result:
        new = Measured.of(records, prompts, model)
        try:
            baseline = Baseline.of(self.baselines, model)
        except BadBaseline as error:
            return Result(model, Decision.UNCLEAR, fault=str(error))
        revision = next((str(r.model["revision"]) for r in records if "revision" in r.model), "")
        if apart := not_comparable(baseline, new):
            fault = f"not comparable with the baseline until it is made anew: {apart}"
            return Result(model, Decision.UNCLEAR, (), fault, baseline.revision, revision)
        old = self._old(baseline, model, revision, new)
        findings = self._moved(model, judge(baseline, old, new), new, old)
        return Result(model, decide(findings), tuple(findings), "", baseline.revision, revision)

    def _old(self, baseline: Baseline, model: str, revision: str, new: Measured) -> Measured | None:
        """The accepted model's own values: its run's, or measured again."""
        if revision == baseline.revision:
            return new
        for run in self._stored(baseline):
            if found := accepted_in(run, baseline):
                return found
        name = self.old_model or _revision_of(model, baseline.revision)
        if not name:
            self.say(
                f"gate: no run of {baseline.revision[:19]} is in {self.store}, and no model to "
                "measure it with; name one with --claims-gate-old"
            )
            return None
        self.say(f"gate: measuring the accepted model, {name}")
        try:
            run = self.again.measure(name)
        except NotAgain as error:
            self.say(f"gate: {error}")
            return None
        own = [record for record in run.records if is_accepted(record, baseline)]
        if not own:
            self.say(f"gate: {name} is not the accepted model {baseline.revision[:19]}")
            return None
        return Measured.of(own, run.prompts, name)

    def _stored(self, baseline: Baseline) -> Iterator[StoredRun]:
        """Runs that may hold the accepted model's values: the baseline's own, then the newest."""
        newest = run_files(self.store)[::-1]
        for path in sorted(newest, key=lambda path: path.stem != baseline.run):
            try:
                if any(baseline.revision.encode() in line for _, line in lines_of(path)):
                    yield read_run(path)
            except (NoRun, OSError) as error:
                self.say(f"gate: {error}")

    def _moved(
        self, model: str, findings: Sequence[Finding], new: Measured, old: Measured | None
    ) -> list[Finding]:
        """Findings that no longer hold may hold elsewhere, if heads found anew play the roles."""
        if old is None:
            return list(findings)
        findings = moved(findings, with_heads(new), old)
        lost = [f for f in findings if is_lost(f) and f.key in new.records]
        if not lost:
            return list(findings)
        self.say(f"gate: measuring {len(lost)} findings that are lost on heads found anew")
        nodes = sorted({_function(new.records[f.key]) for f in lost})
        try:
            run = self.again.measure(f"{model}{TRIED}", nodes)
        except NotAgain as error:
            self.say(f"gate: {error}")
            return list(findings)
        return moved(findings, tried_in(run), old)


def _function(record: ClaimRecord) -> str:
    """The name of a claim's test function."""
    return record.nodeid.partition("[")[0].rpartition("::")[2]


def _revision_of(model: str, revision: str) -> str:
    """The name of a hub model at another revision; empty for what has no revisions."""
    if is_local(model) or not is_hash(revision):
        return ""
    return f"{model.partition('@')[0]}@{revision}"
