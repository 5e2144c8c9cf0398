"""What was tried, how often, and how often what must not happen did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from claimlens.ci.whole_file import write_whole
from claimlens.circuits.plain import read

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- counts: begin -->", "<!-- counts: end -->"
SCHEMA = 1


@dataclass
class Count:
    """One kind of fault: how often it was made, and what came of it.

    `bad` are things that must not happen, and how often they did; `facts` what else there is to
    say, in words.
    """

    part: str
    what: str
    tried: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    day: str = ""

    def must_not(self, *things: str) -> None:
        """Name what must not happen, so that a table says 0 of it."""
        self.bad |= dict.fromkeys(things, 0)

    def happened(self, thing: str, times: int = 1) -> None:
        """Count something that must not happen."""
        if thing not in self.bad:
            raise KeyError(f"{thing!r} is not among what must not happen: {', '.join(self.bad)}")
        self.bad[thing] += times

    @property
    def passed(self) -> bool:
        """Whether something was tried, and nothing happened that must not."""
        return self.tried > 0 and bool(self.bad) and not any(self.bad.values())


@dataclass
class Counts:
    """The counts of all parts, and the machine they come from."""

    machine: str
    parts: dict[str, Count] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, machine: str) -> Counts:
        """What an earlier call has counted into this file, if there is one.

        Raises ValueError where it holds something else, or the counts of another machine.
        """
        if not path.exists():
            return cls(machine)
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError(f"{path} holds no counts of schema {SCHEMA}")
        if data.get("machine") != machine:
            raise ValueError(f"{path} holds the counts of {data.get('machine')}; give another file")
        parts = {name: read(Count, each, "count") for name, each in data["parts"].items()}
        return cls(machine, parts)

    def save(self, path: Path) -> None:
        """Write them, the whole file or none of it."""
        data: dict[str, Any] = {"schema": SCHEMA, "machine": self.machine}
        data["parts"] = {name: asdict(count) for name, count in self.parts.items()}
        write_whole(path, (json.dumps(data, indent=1) + "\n").encode())

    def markdown(self) -> str:
        """The table of docs/reliability.md."""
        lines = [
            f"{self.machine}.",
            "",
            "| what was done | times | what must not happen: how often | | on |",
        ]
        lines += ["|---|---|---|---|---|"]
        for count in self.parts.values():
            bad = "; ".join(f"{thing}: **{n}**" for thing, n in count.bad.items())
            facts = "; ".join(f"{name}: {told}" for name, told in count.facts.items())
            cells = (count.what, f"{count.tried:,}", bad, facts, count.day)
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
        return "\n".join(lines)

    def write_page(self, page: Path = PAGE) -> None:
        """Put the table between its marks."""
        text = page.read_text(encoding="utf-8")
        before, mark, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not mark or not end:
            raise ValueError(f"{page} lacks {BEGIN} or {END}")
        write_whole(page, f"{before}{mark}\n\n{self.markdown()}\n\n{end}{after}".encode())


def _cell(text: str) -> str:
    """Text in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def failed(counts: Sequence[Count]) -> list[str]:
    """The parts in which something happened that must not, or nothing was tried."""
    return [count.part for count in counts if not count.passed]
