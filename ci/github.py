"""What GitHub shows of a run: at most ten annotations, and a summary of the step.

Nothing is done outside of GitHub Actions. Whatever a token contains reaches it as text.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from claimlens.ci.gate import Decision, Finding
from claimlens.ci.gate_run import Result
from claimlens.ci.gate_text import WORDS
from claimlens.ci.outcomes import facts, failed
from claimlens.ci.plain_text import shown_line
from claimlens.circuits.record import ClaimRecord

MOST = 10
"""Annotations of a step that GitHub shows; the last says how many more there are."""
BYTES = 900_000
"""Of a step's summary; GitHub refuses one of 1 MiB."""
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~@$-])")


def is_here(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this runs in GitHub Actions."""
    return environment.get("GITHUB_ACTIONS") == "true"


def commands(records: Sequence[ClaimRecord], results: Sequence[Result]) -> list[str]:
    """Workflow commands: of the gate's findings where it decided, else of the red claims."""
    told = list(_of_findings(results)) if results else [_of(r) for r in records if failed(r)]
    if len(told) > MOST:
        told[MOST - 1 :] = [("error", "claims", f"and {len(told) - MOST + 1} more: see the log")]
    return [f"::{kind} title={_property(title)}::{_data(text)}" for kind, title, text in told]


def write_summary(path: Path, records: Sequence[ClaimRecord], results: Sequence[Result]) -> None:
    """Add a table to the step's summary, no longer than GitHub takes; raises OSError."""
    text = "".join(f"{line}\n" for line in _summary(records, results))
    room = BYTES - (path.stat().st_size if path.exists() else 0)
    data = text.encode()
    if len(data) > room:
        data = data[: max(0, room - 100)].rpartition(b"\n")[0] + b"\n\nThe rest is in the log.\n"
    with path.open("ab") as file:
        file.write(data)


Told = tuple[str, str, str]


def _of_findings(results: Sequence[Result]) -> Iterator[Told]:
    for result in results:
        if result.fault:
            yield "error", f"gate: {result.model}", result.fault
        for finding in result.findings:
            if finding.decision is not Decision.ACCEPTED:
                kind = "error" if finding.decision is Decision.REFUSED else "warning"
                yield kind, f"{finding.outcome}: {finding.key}", finding.reason or finding.new


def _of(record: ClaimRecord) -> Told:
    told = [facts(c) for c in record.comparisons if c.verdict != "holds"]
    name = f"{record.verdict}: {record.claim} {record.head or ''}".strip()
    return "error", name, "; ".join([record.reason, *told][:2])


def _summary(records: Sequence[ClaimRecord], results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        yield f"## Gate: {_text(result.model)}: {WORDS[result.decision]}"
        yield ""
        if result.fault:
            yield _text(result.fault)
        yield from _table(("outcome", "claim", "was", "is", "why"), map(_row, _changed(result)))
    yield "## Claims"
    yield ""
    rows = [
        (r.verdict, r.model_name, f"{r.claim} {r.head or ''}", _value(r))
        for r in sorted(records, key=lambda r: (not failed(r), r.claim))
    ]
    yield from _table(("verdict", "model", "claim", "value"), iter(rows))


def _changed(result: Result) -> list[Finding]:
    return [finding for finding in result.findings if finding.outcome != "unchanged"]


def _row(finding: Finding) -> tuple[str, ...]:
    return finding.outcome, finding.key, finding.old, finding.new, finding.reason


def _value(record: ClaimRecord) -> str:
    return facts(record.deciding) if record.deciding else record.reason


def _table(head: Sequence[str], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_text, row))} |"
    yield ""


def _text(text: str) -> str:
    """Markdown that shows these characters and no others."""
    plain = shown_line(text.replace("\n", " "))
    return _MARKUP.sub(r"\\\1", html.escape(plain, quote=False))


def _data(text: str) -> str:
    plain = shown_line(text.replace("\n", " "))
    return plain.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
