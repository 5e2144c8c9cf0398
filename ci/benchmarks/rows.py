"""The rows of the table as `rows.toml` has them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from claimlens.ci.benchmarks.subject import Size

ROWS = Path(__file__).with_name("rows.toml")


@dataclass(frozen=True)
class Row:
    """One row: its size, and what it must reach.

    `must` and `aim` are times faster than TransformerLens, `best_peer` than the fastest of all
    other peers; `share` is of the matrix product's peak, an aim; `most_mb` of memory.
    """

    name: str
    title: str
    batch: int
    tokens: int
    must: float
    aim: float
    sample: int
    rounds: int
    best_peer: float | None = None
    share: float | None = None
    most_mb: float | None = None

    @property
    def size(self) -> Size:
        """GPT-2 small, with as many prompts as the row says."""
        return Size(self.batch, self.tokens)


def read_rows(file: Path = ROWS) -> dict[str, Row]:
    """The rows by name, in order."""
    given = tomllib.loads(file.read_text(encoding="utf-8"))
    return {name: Row(name=name, **fields) for name, fields in given.items()}
