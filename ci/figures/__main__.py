"""`python -m claimlens.ci.figures RUN.jsonl OUT_DIR`: draw the figures of a run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from claimlens.ci.figures.export import NoFigures, export


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one SVG or HTML file per figure and print their paths; 2 where that is impossible."""
    parser = argparse.ArgumentParser(prog="python -m claimlens.ci.figures", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN.jsonl", help="run file of a test run")
    parser.add_argument("folder", type=Path, metavar="OUT_DIR", help="where the files go")
    given = parser.parse_args(arguments)
    try:
        written = export(given.run, given.folder)
    except NoFigures as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*written, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
