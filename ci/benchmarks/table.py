"""The table: for a terminal, for docs/speed.md, and the JSON that both are made of.

    python -m claimlens.ci.benchmarks.table RESULTS.json

writes it into docs/speed.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from claimlens.ci.benchmarks.machine import in_words
from claimlens.ci.benchmarks.result import REFERENCE, Result
from claimlens.ci.benchmarks.timing import Spread

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "speed.md"
COLUMNS = (
    "sweep", "size", "ours, ms", f"{REFERENCE}, ms", "ratio", "must reach", "aim", "reached",
    "best other peer", "peak RSS, MB", "share of peak", "by",
)  # fmt: skip
CLOCKS = {"cpu": "processor time", "wall": "wall time"}


@dataclass(frozen=True)
class Report:
    """All rows of one run, and the machine they come from."""

    machine: Mapping[str, str]
    results: Sequence[Result]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        rows = [result.to_json() for result in self.results]
        return {"schema": 1, "machine": dict(self.machine), "rows": rows}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """Read what `to_json` wrote; raises ValueError for another schema."""
        if data.get("schema") != 1:
            raise ValueError(f"schema {data.get('schema')!r}; expected 1, as `ci/bench --json` has")
        return cls(data["machine"], [Result.from_json(row) for row in data["rows"]])

    @property
    def heading(self) -> str:
        """What was measured on, and by which clock."""
        clocks = " and ".join(sorted({CLOCKS[result.clock] for result in self.results}))
        return f"{in_words(dict(self.machine))}; medians of {clocks}"

    def shown(self, width: int = 200) -> str:
        """The table for a terminal."""
        table = Table(*COLUMNS, title=self.heading, title_justify="left")
        for result in self.results:
            table.add_row(*cells(result))
        console = Console(width=width, color_system=None)
        with console.capture() as text:
            console.print(table)
        return text.get()

    def markdown(self) -> str:
        """The table for docs/speed.md."""
        lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
        lines += ["| " + " | ".join(cells(result)) + " |" for result in self.results]
        return "\n".join([f"{self.heading}.", "", *lines])


def cells(result: Result) -> tuple[str, ...]:
    """One row of the table, in words."""
    row, peer, best = result.row, result.peers[REFERENCE], result.best_other
    whole = f"{result.peer_ms(REFERENCE):,.0f} ({peer.cells} of {result.cells} cells)"
    must, aim = f"{row.must:g}", f"{row.aim:g}"
    if row.best_peer is not None:
        must += f"; {row.best_peer:g} x best other"
    if row.share is not None:
        aim += f"; {row.share:.0%} of peak"
    return (
        row.title,
        row.size.prompts,
        f"{result.ours_ms:,.0f}",
        whole,
        _spread(result.faster_than(REFERENCE)),
        must,
        aim,
        "no" if list(result.missed()) else "yes",
        "-" if best is None else f"{_spread(best[1])} ({best[0]})",
        "-" if result.peak_mb is None else f"{result.peak_mb:,.0f}",
        f"{result.share_of_peak:.0%}",
        ", ".join(sorted({way.split(":")[0] for way in result.ways.values()})) or "-",
    )


def write_page(text: str, part: str = "table", page: Path = PAGE) -> None:
    """Put a measured part into docs/speed.md; raises ValueError where its marks are gone."""
    first, last = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    before, begin, rest = page.read_text(encoding="utf-8").partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"{page} lacks {first} or {last}, between which it is written")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def save(data: Mapping[str, Any], file: Path) -> None:
    """Write JSON; a number that is not finite is an error."""
    file.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _spread(ratio: Spread) -> str:
    return f"{ratio.middle:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    file: Path = parser.parse_args().results
    write_page(Report.from_json(json.loads(file.read_text(encoding="utf-8"))).markdown())


if __name__ == "__main__":
    main()
