"""Claims by models: what held when."""

from __future__ import annotations

from collections.abc import Sequence

from claimlens.ci.outcomes import LETTERS
from claimlens.ci.plain_text import shown_line
from claimlens.ci.run_files import StoredRun

KEY = "  ".join(f"{letter} {word}" for word, letter in LETTERS.items())


def time_line(runs: Sequence[StoredRun]) -> list[str]:
    """A line for each claim and head, a column for each run, and what the signs mean."""
    verdicts = [{record.key: record.verdict for record in run.records} for run in runs]
    keys = sorted({key for found in verdicts for key in found})
    width = max((len(key) for key in keys), default=0)
    told = [f"{number:>3} {' '.join(run.models)}" for number, run in enumerate(runs, 1)]
    for key in keys:
        row = "".join(LETTERS.get(found.get(key, ""), " ") for found in verdicts)
        told.append(f"{key:<{width}}  {row}")
    return [shown_line(line) for line in [*told, KEY]]
