"""Findings that are lost of their heads and hold of others: moved, not broken.

One lost head needs one new one: a head that the finding was known of before does not count, nor one
that does the work less well, so that a role is not said to have moved where it only lost a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from claimlens.ci.comparing import LEVEL, Unpaired
from claimlens.ci.gate import FELT, Finding, Measured, in_order, paired
from claimlens.circuits.record import ClaimRecord

LOST = ("refuted", "undecided", "not specific")
"""Verdicts that other heads may mend."""


def is_lost(finding: Finding) -> bool:
    """Whether a finding held and does not, or not of this head, and could hold of other heads."""
    elsewhere = finding.new in LOST and bool(finding.decision)
    gone = finding.outcome == "missing" and " " in finding.key
    return finding.old == "holds" and (elsewhere or gone)


def moved(findings: Sequence[Finding], anew: Measured, old: Measured) -> list[Finding]:
    """The findings, those that moved said to be so.

    `anew` are records of the lost claims, on heads that were found anew or that are named now.
    """
    free, found = _new_heads(findings, anew), list[Finding]()
    for finding in findings:
        there = free.get(_claim(finding.key), []) if is_lost(finding) else []
        before = old.records.get(finding.key)
        able = [r for r in there if before is not None and _as_well(before, old, r, anew)]
        if able:
            there.remove(able[0])
            finding = replace(finding, outcome="moved", reason=_where(able[0], finding))
        found.append(finding)
    return in_order(found)


def _new_heads(findings: Sequence[Finding], anew: Measured) -> dict[str, list[ClaimRecord]]:
    """By claim, the records that hold of heads which the claim was not known of."""
    known = {finding.key for finding in findings if finding.outcome != "new"}
    free: dict[str, list[ClaimRecord]] = {}
    for record in anew.records.values():
        if record.verdict == "holds" and (record.head is None or record.key not in known):
            free.setdefault(record.claim, []).append(record)
    return free


def _claim(key: str) -> str:
    return key.partition(" ")[0]


def _as_well(before: ClaimRecord, old: Measured, there: ClaimRecord, anew: Measured) -> bool:
    """Whether a new head does what the lost one did, and not significantly less of it."""
    try:
        changes = paired(before, old, there, anew)
    except Unpaired:
        return False
    return not any(c.worse and c.share >= FELT and c.p <= 1 - LEVEL for c in changes)


def _where(there: ClaimRecord, finding: Finding) -> str:
    heads = there.head or "other heads"
    return f"the role {there.role or 'of its heads'} is now played by {heads}; {finding.reason}"
