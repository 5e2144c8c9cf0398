"""`claimlens show`."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator, Sequence

from claimlens.ci.commands.options import (
    BadRequest,
    Commands,
    add_command,
    add_models,
    add_store,
    known_runs,
    say,
)
from claimlens.ci.commands.stored import readable
from claimlens.ci.outcomes import rerun
from claimlens.ci.report.study import Result, Study, first_broken
from claimlens.ci.run_files import find_run
from claimlens.circuits.record import ComparisonRecord, ControlRecord


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    told = "print all that the runs know of a claim"
    examples = ("show ioi/accuracy", "show ioi/accuracy --model gpt2 --run latest")
    parser = add_command(commands, "show", told, examples, run)
    parser.add_argument("id", help="a claim's id")
    add_models(parser, "on this model (default: on all)")
    parser.add_argument("--run", dest="only", metavar="ID", help="of this run (default: of all)")
    add_store(parser)


def run(given: argparse.Namespace) -> int:
    """Print it; a run file that cannot be read is named on stderr."""
    files = [find_run(given.store, given.only)] if given.only else known_runs(given.store)
    study = Study.of(list(readable(files)))
    for line in _lines(_chosen(study, given.id, given.models), study):
        say(line)
    return 0


def _chosen(study: Study, id: str, models: Sequence[str]) -> list[Result]:
    """The newest results of a claim; raises BadRequest where there are none."""
    if id not in study.now:
        near = difflib.get_close_matches(id, study.now, 3)
        hint = f"did you mean {', '.join(near)}?" if near else "`claimlens runs` lists the runs"
        raise BadRequest(f"no run has a claim {id[:100]!r}; {hint}")
    known = study.now[id]
    if unknown := [name for name in models if name not in known]:
        raise BadRequest(f"{id} was not run on {unknown[0]!r}; it was on {', '.join(known)}")
    return [result for name in models or known for result in known[name]]


def _lines(results: Sequence[Result], study: Study) -> Iterator[str]:
    """The claim, then each model."""
    first = results[0].record
    yield f"{first.claim} ({first.kind})"
    yield f"  {' '.join(first.statement.split())}"
    yield f"  source: {first.source}"
    if first.caveat:
        yield f"  fragile: {first.caveat}"
    for result in results:
        yield ""
        yield from _result(result, study.past(result))


def _result(result: Result, past: Sequence[Result]) -> Iterator[str]:
    record = result.record
    head = f" {record.head}" if record.head else ""
    expected = "" if record.as_expected else f" (expected: {record.expected})"
    yield f"{record.model_name}{head}: {record.verdict}{expected}"
    if record.reason:
        yield f"  {record.reason}"
    for comparison in record.comparisons:
        yield from _comparison(comparison)
    yield from (_control(control) for control in record.controls)
    if record.controls_note:
        yield f"  {record.controls_note}"
    yield from _history(past)
    yield f"  again: {rerun(record)}"


def _comparison(c: ComparisonRecord) -> Iterator[str]:
    yield (
        f"  {c.expression}: {c.value:.3g} [{c.low:.3g}, {c.high:.3g}] {c.unit} "
        f"{c.relation} {c.threshold:g}, n={c.n}: {c.verdict}"
    )
    for prompt in c.worst[:3]:
        text = " ".join(str(prompt.get("text", "")).split())[:120]
        yield f"    weak: {prompt.get('value', float('nan')):.3g} on {text!r}"


def _control(control: ControlRecord) -> str:
    holding = sum(verdict == "holds" for verdict in control.verdicts.values())
    failed = "" if control.passed else ", which is too many"
    return f"  control, {control.name}: {holding} of {len(control.verdicts)} hold{failed}"


def _history(past: Sequence[Result]) -> Iterator[str]:
    """Every run in which the verdict or the weights changed; the one that broke it is marked."""
    before, broke = ("", ""), first_broken(past)
    for result in past:
        now = (result.record.verdict, result.revision)
        if now != before or result is broke:
            mark = ", the first that broke it" if result is broke else ""
            weights = result.revision[:19] or "not loaded"
            yield f"  since {result.run.id} ({weights}): {now[0]}{mark}"
        before = now
