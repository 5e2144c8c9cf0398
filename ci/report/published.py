"""The published figure that a claim cites, in words."""

from __future__ import annotations

from typing import Any

from claimlens.circuits.findings import all_findings
from claimlens.circuits.record import ClaimRecord

MOST = 12
"""Numbers of a figure that are told."""


def published(record: ClaimRecord) -> str:
    """`4.276 logits in gpt2, at END`; empty where the claim cites no figure that is known here."""
    found = all_findings().get(record.finding)
    if found is None:
        return ""
    heads = f", heads {', '.join(found.heads)}" if found.heads else ""
    place = f", at {found.position}" if found.position else ""
    return f"{_value(found.value)} {found.unit} in {found.model}{heads}{place}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return _told([f"{name}: {number}" for name, number in value.items()])
    if isinstance(value, list):
        return _told([str(number) for number in value])
    return str(value)


def _told(parts: list[str]) -> str:
    return ", ".join(parts[:MOST]) + (f" and {len(parts) - MOST} more" if parts[MOST:] else "")
