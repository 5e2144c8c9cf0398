"""The section a run ends with: one line per claim, totals, and where the results are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest

from claimlens.ci.outcomes import outcome_of
from claimlens.ci.plain_text import shown_line
from claimlens.circuits.record import ClaimRecord, ControlRecord

COLORS = {
    "holds": "green",
    "refuted": "red",
    "undecided": "yellow",
    "not specific": "yellow",
    "not measured": "red",
    "not applicable": "light",
}
ORDER = tuple(COLORS)


def write_claims(terminal: pytest.TerminalReporter, records: Sequence[ClaimRecord]) -> None:
    """One line per claim: verdict, value, interval, threshold, n, rank, controls."""
    terminal.write_sep("=", "claims")
    width = max(len(_name(record)) for record in records)
    for record in sorted(records, key=lambda r: (r.model_name, r.claim, r.head or "")):
        color = COLORS[record.verdict] if not _against(record) else "red"
        terminal.write(f"{record.verdict:<15}", **{color: True})
        terminal.write_line(shown_line(f"{_name(record):<{width}}  {_summary(record)}"))
    _write_totals(terminal, records)
    _write_fallen(terminal, records)


def write_unmet(terminal: pytest.TerminalReporter) -> None:
    """The explanations of the verdicts that pytest's own failure section does not know."""
    for category in ("undecided", "not specific"):
        for report in terminal.stats.get(category, []):
            terminal.section(f"{category}: {report.nodeid}", "_", red=True)
            terminal.write_line(str(report.longrepr))


def _write_totals(terminal: pytest.TerminalReporter, records: Sequence[ClaimRecord]) -> None:
    for model in sorted({r.model_name for r in records}):
        mine = [r for r in records if r.model_name == model]
        counts = Counter(r.verdict for r in mine)
        totals = ", ".join(f"{counts[word]} {word}" for word in ORDER if counts[word])
        terminal.write_line(shown_line(f"{model}{_provenance(mine)}: {totals}"))


def _write_fallen(terminal: pytest.TerminalReporter, records: Sequence[ClaimRecord]) -> None:
    """Which sweeps went by hooks because the engine could not, and of how many claims."""
    sweeps: dict[tuple[str, str], set[str]] = defaultdict(set)
    claims: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record in records:
        for sweep, why in record.fallen.items():
            sweeps[record.model_name, why].add(sweep)
            claims[record.model_name, why].add(record.nodeid)
    for model, why in sorted(sweeps):
        names, n = ", ".join(sorted(sweeps[model, why])), len(claims[model, why])
        told = f"by hooks, not by the engine: {names} on {model} ({why}): {n} claim"
        terminal.write_line(shown_line(f"{told}{'s' if n > 1 else ''}"))


def _provenance(records: Sequence[ClaimRecord]) -> str:
    """` (sha256:0123456789ab, roles fitted)`: which weights these were, and who named the heads."""
    revision = next((str(r.model["revision"])[:19] for r in records if "revision" in r.model), "")
    source = next((f"roles {r.role_source}" for r in records if r.role_source), "")
    known = ", ".join(part for part in (revision, source) if part)
    return f" ({known})" if known else ""


def _name(record: ClaimRecord) -> str:
    head = f" {record.head}" if record.head else ""
    return f"{record.model.get('name', '')} {record.claim}{head}"


def _against(record: ClaimRecord) -> bool:
    return outcome_of(record).category not in ("passed", "skipped")


def _summary(record: ClaimRecord) -> str:
    c = record.deciding
    if c is None:
        return record.reason
    parts = [
        f"{c.value:.3g} [{c.low:.3g}, {c.high:.3g}] {c.unit} {c.relation} {c.threshold:g}",
        f"n={c.n}",
    ]
    if record.rank is not None:
        parts.append(f"rank {record.rank}/{record.rank_of}")
    parts += [_control(control) for control in record.controls]
    if record.verdict == "holds" and record.controls_note:
        parts.append(record.controls_note)
    if record.verdict in ("not measured", "not applicable"):
        parts.append(record.reason)
    if record.expected != "holds":
        parts.append(f"expected: {record.expected}")
    if record.reused:
        parts.append(f"{len(record.reused)} results from the cache")
    if record.memory:
        parts.append(record.memory)
    if record.caveat:
        parts.append("fragile source")
    return "  ".join(parts)


def _control(control: ControlRecord) -> str:
    holding = sum(verdict == "holds" for verdict in control.verdicts.values())
    return f"{control.name} {holding}/{len(control.verdicts)}{'' if control.passed else ' !'}"
