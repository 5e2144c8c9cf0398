"""What a store holds, for commands that read all of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from claimlens.ci.plain_text import shown
from claimlens.ci.report.study import Study
from claimlens.ci.run_files import NoRun, StoredRun, read_run, run_files

MOST = 3
"""Damaged run files that are named."""


def study_of(store: Path) -> Study:
    """All runs of a store that can be read; there may be none."""
    return Study.of(list(readable(run_files(store))))


def readable(files: Sequence[Path]) -> Iterator[StoredRun]:
    """The runs that can be read; those that can't are named on stderr, the first of them."""
    left = 0
    for file in files:
        try:
            yield read_run(file)
        except NoRun as error:
            left += 1
            if left <= MOST:
                print(shown(f"left out: {error}"), file=sys.stderr)
    if left > MOST:
        print(f"left out: {left - MOST} more", file=sys.stderr)
