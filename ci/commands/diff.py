"""`claimlens diff`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from claimlens.ci.baseline import Baseline, accepted, environment_of
from claimlens.ci.commands.options import (
    BadRequest,
    Commands,
    add_command,
    add_json,
    add_store,
    say,
)
from claimlens.ci.gate import Finding, Measured, judge, not_comparable
from claimlens.ci.gate_moves import moved
from claimlens.ci.gate_text import line_of, totals
from claimlens.ci.run_files import StoredRun, find_run, read_run
from claimlens.ci.sides import TRIED, with_heads


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    told = "compare two runs, prompt by prompt, as the gate does"
    examples = ("diff 20260131T235959Z-0a1b2c3d latest", "diff old.jsonl new.jsonl --json")
    more = (
        "Models are paired by\ntheir name without @revision. No baseline is needed and nothing is "
        "measured; heads that no\nrun names are for the gate to find. "
        "The exit code is 0 whatever changed."
    )
    parser = add_command(commands, "diff", told, examples, run, more)
    parser.add_argument("old", metavar="A", help="a run's id, `latest`, or a run file")
    parser.add_argument("new", metavar="B", help="the run that it is compared with")
    add_store(parser)
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Compare each model that both have."""
    old, new = (_run(given.store, name) for name in (given.old, given.new))
    names, others = _models(old), _models(new)
    common = [name for name in names if name in others]
    if not common:
        told = f"{_told(names)}, the other on {_told(others)}"
        raise BadRequest(f"the runs have no model in common: one is on {told}")
    found = {name: _compared(old, names[name], new, others[name]) for name in common}
    alone = sorted({*names, *others} - {*common})
    if given.json:
        models = {name: [finding.to_json() for finding in each] for name, each in found.items()}
        print(
            json.dumps(
                {"old": old.id, "new": new.id, "models": models, "alone": alone}, allow_nan=False
            )
        )
        return 0
    for name, findings in found.items():
        for line in _lines(name, findings):
            say(line)
    for name in alone:
        say(f"{name}: only one of the runs is on it")
    return 0


def _run(store: Path, name: str) -> StoredRun:
    return read_run(Path(name) if name.endswith(".jsonl") else find_run(store, name))


def _models(run: StoredRun) -> dict[str, str]:
    """The models of a run, by their names without a revision; raises BadRequest for two."""
    found = dict[str, str]()
    for name in run.models:
        plain = name.partition("@")[0]
        if name.endswith(TRIED):
            continue
        if plain in found:
            raise BadRequest(f"{run.id} holds two revisions of {plain}; compare runs of one each")
        found[plain] = name
    return found


def _told(names: dict[str, str]) -> str:
    return ", ".join(names) or "none"


def _compared(old: StoredRun, before: str, new: StoredRun, after: str) -> list[Finding]:
    """What became of a model's findings; raises BadRequest where they cannot be compared."""
    then = Measured.of(old.records, old.prompts, before)
    now = Measured.of(new.records, new.prompts, after)
    baseline = _as_accepted(old, before, then)
    if apart := baseline.environment and not_comparable(baseline, now):
        raise BadRequest(f"{before} cannot be compared: {apart}; run both the same way")
    return moved(judge(baseline, then, now), with_heads(now), then)


def _as_accepted(run: StoredRun, model: str, measured: Measured) -> Baseline:
    """A run as if all its verdicts had been accepted."""
    identity = next((r.model for r in measured.records.values() if "revision" in r.model), {})
    claims = {key: accepted(r, "", run.id) for key, r in measured.records.items()}
    environment = environment_of(identity) if identity else {}
    return Baseline(model, str(identity.get("revision", "")), run.id, environment, [], claims)


def _lines(model: str, findings: Sequence[Finding]) -> Iterator[str]:
    """The findings that changed, the gravest first, and how many there are of each kind."""
    yield f"{model}: {totals(findings)}"
    for finding in findings:
        if finding.outcome != "unchanged":
            yield f"  {' '.join(line_of(finding).splitlines())}"
