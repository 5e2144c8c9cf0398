"""A record of a claim that holds, to change for a test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from claimlens.circuits.record import ClaimRecord, ComparisonRecord, ControlRecord


def comparison(value: float = 0.41) -> ComparisonRecord:
    return ComparisonRecord(
        expression="to_io >= 0.3",
        value=value,
        low=0.32,
        high=0.5,
        level=0.99,
        method="BCa over 64 clusters",
        relation=">=",
        threshold=0.3,
        unit="probability",
        n=128,
        verdict="holds",
        asserted=True,
        worst=[{"id": "ioi-0-1", "value": 0.1, "text": "When Ève said “no”\u2028and left\n"}],
    )


def record(**changes: Any) -> ClaimRecord:
    whole = ClaimRecord(
        claim="ioi/x",
        nodeid="test_x.py::test_x[default-L1H1]",
        kind="mechanism",
        statement="It holds.",
        source="here",
        verdict="holds",
        model={"name": "default", "revision": "sha256:00", "versions": {"torch": "2"}},
        head="L1H1",
        comparisons=[comparison()],
        controls=[ControlRecord("another head", "head", {"L1H0": "refuted"}, "few", True)],
    )
    return replace(whole, **changes)
