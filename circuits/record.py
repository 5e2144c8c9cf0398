"""ClaimRecord: all that is known of one claim on one model, in plain JSON types.

This is what the fixtures write, the store keeps and the terminal, the gate and the report read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

SCHEMA = 1
AS_ASKED = "hooks: as asked"
"""The way of a sweep that was to go by hooks."""


@dataclass
class ComparisonRecord:
    """One assertion: the measured value, its interval, and the threshold it was held against."""

    expression: str
    value: float
    low: float
    high: float
    level: float
    method: str
    relation: str
    threshold: float
    unit: str
    n: int
    verdict: str
    asserted: bool
    worst: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class ControlRecord:
    """One control: the same claim with one argument replaced.

    `verdicts` maps each replacement (a head, a seed) to the verdict it got.
    """

    name: str
    argument: str
    verdicts: dict[str, str]
    allowed: str
    passed: bool


@dataclass
class ClaimRecord:
    """The outcome of one claim for one model (and one head).

    `engine` maps each sweep to the way that it was measured: "engine", or "hooks: why".
    """

    claim: str
    nodeid: str
    kind: str
    statement: str
    source: str
    verdict: str
    reason: str = ""
    expected: str = "holds"
    model: dict[str, Any] = field(default_factory=dict)
    head: str | None = None
    role: str | None = None
    role_source: str | None = None
    comparisons: list[ComparisonRecord] = field(default_factory=list)
    controls: list[ControlRecord] = field(default_factory=list)
    controls_note: str = ""
    rank: int | None = None
    rank_of: int | None = None
    prompts: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    engine: dict[str, str] = field(default_factory=dict)
    caveat: str = ""
    looks: int = 0
    seed: int = 0
    claim_version: int = 1
    source_digest: str = ""
    duration_s: float = 0.0
    traceback: bool = False
    schema: int = SCHEMA

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one that the claim's marker expects of this model."""
        return self.verdict == self.expected

    @property
    def fallen(self) -> dict[str, str]:
        """Why sweeps went by hooks that nobody had asked to."""
        return {
            sweep: way.removeprefix("hooks: ")
            for sweep, way in self.engine.items()
            if way.startswith("hooks") and way != AS_ASKED
        }

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types: what is stored and what travels between processes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ClaimRecord:
        """Read what `to_json` wrote; raises ValueError where a field is unknown or missing."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ValueError(f"not a claim record: unknown fields {unknown}")
        if data.get("schema") != SCHEMA:
            raise ValueError(f"claim record of schema {data.get('schema')!r}; expected {SCHEMA}")
        missing = {"claim", "nodeid", "kind", "statement", "source", "verdict"} - set(data)
        if missing:
            raise ValueError(f"not a claim record: fields {sorted(missing)} are missing")
        parts = {
            "comparisons": [ComparisonRecord(**c) for c in data.get("comparisons", [])],
            "controls": [ControlRecord(**c) for c in data.get("controls", [])],
        }
        return cls(**{**data, **parts})
