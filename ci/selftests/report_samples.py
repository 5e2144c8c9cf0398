"""Runs to make reports of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from claimlens.ci.report.pages import write_report
from claimlens.ci.report.study import Study
from claimlens.ci.run_files import StoredRun
from claimlens.ci.selftests.records import comparison, record
from claimlens.circuits.figures import Bar, Bars
from claimlens.circuits.record import ClaimRecord, PromptsRecord, packed

N = 20
IDS = [f"ioi-{n}" for n in range(N)]


def prompts(text: str = "When {} met") -> PromptsRecord:
    """Twenty prompts."""
    return PromptsRecord(
        "p", IDS, [f"t{n}" for n in range(N)], [text.replace("{}", str(n)) for n in range(N)]
    )


def finding(
    claim: str = "ioi/x", model: str = "default", revision: str = "r2", **changes: Any
) -> ClaimRecord:
    """A result with values: prompt n has n / 20."""
    compared = replace(comparison(), prompts="p", values=packed(np.arange(N) / N))
    identity = {"name": model, "revision": revision, "versions": {"torch": "2"}, "dtype": "float32"}
    figure = Bars("Drawn", "logits", [Bar("a", 1.0)]).to_json()
    given = {"comparisons": [compared], "figures": [figure], **changes}
    return record(claim=claim, model=identity, **given)


def run(*records: ClaimRecord, number: int = 1, text: str = "When {} met") -> StoredRun:
    """A run that holds them, begun on a day of its own."""
    header = {"type": "run", "started": f"2026-01-{number:02d}T00:00:00+00:00", "python": "3.11"}
    path = Path(f"202601{number:02d}T000000Z-0000000{number}.jsonl")
    return StoredRun(path, header=header, prompts={"p": prompts(text)}, records=list(records))


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def written(folder: Path, *runs: StoredRun) -> Path:
    write_report(folder, Study.of(runs), {})
    return folder


def pages(folder: Path) -> Iterator[Page]:
    yield from (Page(path.read_text()) for path in sorted(folder.rglob("*.html")))
