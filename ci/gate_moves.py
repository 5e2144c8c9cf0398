"""Findings that are lost of their heads and hold of others: moved, not broken.

One lost head needs one new one: a head that the finding was known of before does not count, nor one
that does the work less well, so that a role is not said to have moved where it only lost a head.
Where several could stand for several, as many findings as possible find one, each its likest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

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
    lost = dict[str, list[Finding]]()
    for finding in filter(is_lost, findings):
        lost.setdefault(_claim(finding.key), []).append(finding)
    free, there = _new_heads(findings, anew), dict[str, ClaimRecord]()
    for claim, gone in lost.items():
        there |= _matched(gone, old, free.get(claim, []), anew)
    return in_order([_moved(f, there[f.key]) if f.key in there else f for f in findings])


def _moved(finding: Finding, there: ClaimRecord) -> Finding:
    reason = _where(there, finding)
    return replace(finding, outcome="moved", reason=reason, there=there.head or "")


def _matched(
    lost: Sequence[Finding], old: Measured, free: Sequence[ClaimRecord], anew: Measured
) -> dict[str, ClaimRecord]:
    """For each finding that has one, the new head that stands for it: no head stands for two."""
    apart = np.array([[_apart(finding, old, there, anew) for there in free] for finding in lost])
    if not apart.size:
        return {}
    able = np.isfinite(apart)
    never = 1.0 + 2 * len(lost) * float(apart[able].max(initial=0.0))
    rows, columns = linear_sum_assignment(np.where(able, apart, never))
    return {
        lost[i].key: free[j]
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
        if able[i, j]
    }


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


def _apart(finding: Finding, old: Measured, there: ClaimRecord, anew: Measured) -> float:
    """How far what a new head does is from what the lost one did; infinite where it is less.

    That is: significantly less, or not comparable prompt by prompt.
    """
    before = old.records.get(finding.key)
    if before is None:
        return math.inf
    try:
        changes = paired(before, old, there, anew)
    except Unpaired:
        return math.inf
    if any(c.worse and c.share >= FELT and c.p <= 1 - LEVEL for c in changes):
        return math.inf
    return max((abs(change.share) for change in changes), default=0.0)


def _where(there: ClaimRecord, finding: Finding) -> str:
    heads = there.head or "other heads"
    return f"the role {there.role or 'of its heads'} is now played by {heads}; {finding.reason}"
