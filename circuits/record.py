"""ClaimRecord: all that is known of one claim on one model, in plain JSON types.

This is what the fixtures write, the store keeps and the terminal, the gate and the report read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from claimlens.circuits.plain import check, read

Word = Literal["holds", "refuted", "undecided", "not specific", "not measured", "not applicable"]
"""The verdicts of a claim."""
WORDS: tuple[Word, ...] = get_args(Word)
SCHEMA = 2
CLAIM_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)+")
"""What a claim may be called: lower-case words, and at least one slash."""
SHOWN = 5
"""Prompts at each end, the weakest and the strongest, that a reader is shown."""
AS_ASKED = "hooks: as asked"
"""The way of a sweep that was to go by hooks."""


@dataclass(eq=False)
class PromptsRecord:
    """Prompts that values were measured on; kept once a run, under the digest of all the rest.

    Equal to itself alone: many claims share one, and what is made of it is remembered.
    """

    digest: str
    ids: list[str]
    templates: list[str]
    texts: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; raises ValueError where it is something else."""
        found = read(cls, data, "prompts")
        if not len(found.ids) == len(found.templates) == len(found.texts):
            raise ValueError("not a prompts record: ids, templates and texts differ in number")
        return found


@dataclass(slots=True)
class ComparisonRecord:
    """One assertion: the measured value, its interval, and the threshold it was held against.

    `values` has one number for each of the `prompts` of that digest, `denominators` those of a
    ratio, both `packed`; they are what two runs are compared by.
    """

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
    prompts: str = ""
    values: str = ""
    denominators: str = ""

    @property
    def by_prompt(self) -> Float[ndarray, " prompt"]:
        """Each prompt's value; of a ratio its own, 0 where its denominator is 0."""
        values = unpacked(self.values)
        if not self.denominators:
            return values
        below = unpacked(self.denominators)
        found: Float[ndarray, " prompt"] = np.zeros_like(values)
        np.divide(values, below, out=found, where=below != 0)
        return found

    @property
    def weakest_first(self) -> list[int]:
        """The places of the prompts, those first that speak most against the claim."""
        order: list[int] = np.argsort(self.by_prompt, kind="stable").tolist()
        return order[::-1] if self.relation in ("<=", "<") else order


@dataclass(slots=True)
class TokenScores:
    """What the tokens of a few prompts weigh: `what` says by which measure, `unit` in what.

    `tokens` has the tokens of each prompt by its id, `scores` a number for each. Where nothing was
    measured there are none, and `what` says why.
    """

    what: str
    unit: str = ""
    tokens: dict[str, list[str]] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)


@dataclass(slots=True)
class ControlRecord:
    """One control: the same claim with one argument replaced.

    `verdicts` maps each replacement (a head, a seed) to the verdict it got.
    """

    name: str
    argument: str
    verdicts: dict[str, str]
    allowed: str
    passed: bool


@dataclass(slots=True)
class ClaimRecord:
    """The outcome of one claim for one model (and one head).

    `engine` maps each sweep to the way that it was measured: "engine", or "hooks: why".
    `finding` is the id of the published figure that it cites, `code` its source.
    `head_values` has the first value of the claim's head, and of each that was tried in its stead.
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
    head_values: dict[str, float] = field(default_factory=dict)
    token_scores: TokenScores | None = None
    prompts: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    engine: dict[str, str] = field(default_factory=dict)
    memory: str = ""
    caveat: str = ""
    finding: str = ""
    code: str = ""
    looks: int = 0
    seed: int = 0
    claim_version: int = 1
    source_digest: str = ""
    duration_s: float = 0.0
    traceback: bool = False
    schema: int = SCHEMA

    @property
    def model_name(self) -> str:
        """The model that it was asked of; empty where none was named."""
        return str(self.model.get("name", ""))

    @property
    def key(self) -> str:
        """The claim's id, and its head where it has one: what it is called in a suite."""
        return f"{self.claim} {self.head}" if self.head else self.claim

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one that the claim's marker expects of this model."""
        return self.verdict == self.expected

    @property
    def deciding(self) -> ComparisonRecord | None:
        """The comparison that decides: the first that does not hold, else the first."""
        failing = [c for c in self.comparisons if c.verdict != "holds"]
        return next(iter(failing or self.comparisons), None)

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
        if data.get("schema") != SCHEMA:
            raise ValueError(f"claim record of schema {data.get('schema')!r}; expected {SCHEMA}")
        check(cls, data, "claim")
        if data["verdict"] not in WORDS:
            raise ValueError(f"not a claim record: no verdict {data['verdict']!r}")
        found = cls(**data)
        found.code = sys.intern(found.code)  # the same for all its models and heads
        comparisons: Any = data.get("comparisons", [])
        controls: Any = data.get("controls", [])
        found.comparisons = [read(ComparisonRecord, c, "comparison") for c in comparisons]
        found.controls = [read(ControlRecord, c, "control") for c in controls]
        if data.get("token_scores") is not None:
            found.token_scores = _token_scores(data["token_scores"])
        return found


def _token_scores(data: Any) -> TokenScores:
    """Read them; raises ValueError where a prompt has another number of tokens than of scores."""
    found = read(TokenScores, data, "token scores")
    lengths = [{id: len(each) for id, each in of.items()} for of in (found.tokens, found.scores)]
    if lengths[0] != lengths[1]:
        raise ValueError("not a token scores record: tokens and scores differ in number")
    if not all(type(x) in (int, float) for each in found.scores.values() for x in each):
        raise ValueError("not a token scores record: a score is no number")
    return found


def source_digest(function: Callable[..., Any]) -> str:
    """A short digest of a claim's source: another one is another claim."""
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]


def packed(values: Float[ndarray, " prompt"]) -> str:
    """Numbers as text, to the bit: float64, little-endian, in base64."""
    return base64.b64encode(values.astype("<f8").tobytes()).decode("ascii")


def unpacked(text: str) -> Float[ndarray, " prompt"]:
    """The numbers of `packed`; raises ValueError where the text holds none."""
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f8")
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not packed numbers: {error}") from error
