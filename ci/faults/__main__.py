"""Make faults, count what comes of them: `ci/torture`.

Counts are written to a file after each part, so that the parts can be done one by one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

from claimlens.ci.benchmarks.machine import in_words, machine
from claimlens.ci.faults.costs import gate_costs, sweep_costs, writing_costs
from claimlens.ci.faults.count import Count, Counts, failed
from claimlens.ci.faults.disks import disks
from claimlens.ci.faults.forked import import_all
from claimlens.ci.faults.hostile import ids, tokens
from claimlens.ci.faults.kills import kills
from claimlens.ci.faults.model_updates import CLAIMS, model_updates
from claimlens.ci.faults.mutations import mutations
from claimlens.ci.faults.one_store import one_store
from claimlens.ci.faults.payloads import payloads
from claimlens.ci.faults.sweeps import sweeps

Part = Callable[[Path], Count]
TIMED = ("claims/ioi", "claims/induction")
WHOLE: Mapping[str, Part] = {
    "one-store": lambda folder: one_store(folder, 16, 50),
    "mutations": lambda folder: mutations(folder, 10_000),
    "ids": lambda folder: ids(folder, 5_000),
    "payloads": payloads,
    "tokens": lambda folder: tokens(folder, 500),
    "disks": lambda folder: disks(folder, 20),
    "gate-costs": lambda folder: gate_costs(folder, 20_000),
    "writing-costs": lambda folder: writing_costs(folder, TIMED),
    "sweep": lambda folder: sweeps(folder, 20, 3),
    "kills": lambda folder: kills(folder, 200),
    "updates": lambda folder: model_updates(folder, 5),
    "sweep-costs": lambda folder: sweep_costs(folder, 20, CLAIMS),
}
"""The quick ones first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the parts that are asked for; 1 where something happened that must not."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.parts if name not in WHOLE]:
        parser.error(f"no part {unknown[0]!r}; expected {', '.join(WHOLE)}")
    try:
        counts = Counts.load(given.json, in_words(machine("cpu")))
    except ValueError as error:
        parser.error(str(error))
    import_all()
    for name in given.parts or WHOLE:
        with tempfile.TemporaryDirectory(prefix=f"claimlens-{name}-") as folder:
            counts.parts[name] = WHOLE[name](Path(folder) / name)
            counts.parts[name].day = str(date.today())
        counts.save(given.json)
        print(_line(counts.parts[name]), flush=True)
    if given.write_docs:
        counts.write_page()
    red = failed(list(counts.parts.values()))
    print(f"failed: {', '.join(red)}" if red else "nothing happened that must not")
    return 1 if red else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ci/torture", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(WHOLE)} (default: all)"
    )
    parser.add_argument(
        "--json", type=Path, default=Path("torture.json"), help="counts are kept here"
    )
    parser.add_argument(
        "--write-docs", action="store_true", help="write the table into docs/reliability.md"
    )
    return parser


def _line(count: Count) -> str:
    bad = ", ".join(f"{thing}: {n}" for thing, n in count.bad.items())
    facts = "; ".join(f"{name}: {told}" for name, told in count.facts.items())
    return f"{count.part}: {count.tried:,} tried. {bad}. {facts}"


if __name__ == "__main__":
    sys.exit(main())
