"""`claimlens list`."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from claimlens.ci.commands.collected import Listed, collect
from claimlens.ci.commands.options import Commands, add_command, add_json, add_store, say
from claimlens.ci.commands.pytest_process import all_claims
from claimlens.ci.commands.stored import study_of
from claimlens.ci.plain_text import shown_line
from claimlens.ci.report.study import Study
from claimlens.ci.run_table import printed
from claimlens.circuits.record import WORDS


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    told = "list the claims that there are, with the newest verdicts in the store"
    examples = ("list", "list claims/ioi --json", "list -- -k movers")
    more = "Nothing is measured and no model is loaded."
    parser = add_command(commands, "list", told, examples, run, more)
    parser.add_argument("pytest", nargs="*", metavar="PATH", help="as for `claimlens check`")
    add_store(parser)
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Collect them, and look up what the runs say of each."""
    claims, study = collect(given.pytest or all_claims()), study_of(given.store)
    if given.json:
        found = [{**asdict(claim), "verdicts": _verdicts(study, claim.id)} for claim in claims]
        print(json.dumps(found, indent=1))
        return 0
    table = Table("claim", "kind", "role", "verdicts", "statement", box=None, pad_edge=False)
    for row in _rows(claims, study):
        table.add_row(*(escape(shown_line(cell)) for cell in row))
    printed(table)
    say(f"{len(claims)} claims")
    return 0


def _verdicts(study: Study, claim: str) -> dict[str, dict[str, int]]:
    """By model, how many of the claim's heads have which verdict."""
    found = study.now.get(claim, {})
    return {model: dict(Counter(r.record.verdict for r in found[model])) for model in found}


def _rows(claims: Sequence[Listed], study: Study) -> Iterator[tuple[str, ...]]:
    for claim in claims:
        verdicts = _verdicts(study, claim.id).items()
        told = "; ".join(f"{model}: {_counted(counts)}" for model, counts in verdicts)
        yield claim.id, claim.kind, claim.role, told, claim.statement


def _counted(counts: dict[str, int]) -> str:
    """`2 holds, refuted`."""
    return ", ".join(
        f"{counts[word]} {word}" if counts[word] > 1 else word for word in WORDS if word in counts
    )
