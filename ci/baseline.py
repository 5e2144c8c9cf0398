"""The baseline: which verdicts were accepted of a model; in git, and changed by intent alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from claimlens.ci.whole_file import write_whole
from claimlens.circuits.plain import check, read, refuse_constant
from claimlens.circuits.record import WORDS, ClaimRecord

SCHEMA = 1
ENVIRONMENT = ("architecture", "processing", "dtype", "device", "tf32", "seed")
"""What must be the same of two models for their numbers to be compared."""
_CONFLICT = re.compile(r"^(<{7}|={7}|>{7})", re.MULTILINE)


class BadBaseline(ValueError):
    """A baseline that cannot be read or used; the message says what to do."""


@dataclass
class Accepted:
    """What was accepted of one claim: its verdict, when and why, and the claim as it read then."""

    verdict: str
    version: int
    source_digest: str
    date: str
    reason: str
    values: dict[str, float] = field(default_factory=dict)


@dataclass
class Baseline:
    """The accepted verdicts of one model, by claim and head.

    `run` is the run that they were measured in, `revision` the weights, `environment` what must be
    the same for a comparison, `paths` what pytest was given: a run of less is a partial one.
    """

    model: str
    revision: str
    run: str
    environment: dict[str, Any]
    paths: list[str]
    claims: dict[str, Accepted]
    schema: int = SCHEMA

    @classmethod
    def of(cls, folder: Path, model: str) -> Baseline:
        """The baseline of a model; raises BadBaseline where the file is another model's."""
        path = baseline_path(folder, model)
        found, name = cls.load(path), model.partition("@")[0]
        if found.model != name:
            raise BadBaseline(
                f"{path} is the baseline of {found.model}, not of {name}; move it away"
            )
        return found

    @classmethod
    def load(cls, path: Path) -> Baseline:
        """Read a baseline. Raises BadBaseline."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise BadBaseline(
                f"there is no baseline {path}; make one with --claims-baseline create and "
                "--claims-reason"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise BadBaseline(f"{path} cannot be read: {error}") from error
        if _CONFLICT.search(text):
            raise BadBaseline(f"{path} holds the markers of a merge conflict; resolve it first")
        try:
            return _parsed(
                json.loads(text, object_pairs_hook=_unique, parse_constant=refuse_constant)
            )
        except (ValueError, RecursionError) as error:
            raise BadBaseline(
                f"{path} is damaged: {error}; restore it from git, or delete it and make it anew "
                "with --claims-baseline create"
            ) from error

    def save(self, path: Path) -> None:
        """Write it, sorted, one value a line; the whole file or none of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=2, sort_keys=True, allow_nan=False)
        write_whole(path, f"{text}\n".encode())


def baseline_path(folder: Path, model: str) -> Path:
    """`<folder>/<model>.json`; whatever a name contains, it stays in the folder."""
    name = model.partition("@")[0]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "--", name).strip("-.") or "model"
    return folder / f"{plain[:100]}.json"


def environment_of(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same of two models; of the device its kind."""
    found = {name: identity.get(name) for name in ENVIRONMENT}
    found["device"] = str(identity.get("device", "")).partition(":")[0]
    return found


def accepted(record: ClaimRecord, date: str, reason: str) -> Accepted:
    """A record's verdict, accepted."""
    values = {c.expression: float(f"{c.value:.6g}") for c in record.comparisons}
    return Accepted(
        record.verdict, record.claim_version, record.source_digest, date, reason, values
    )


def _parsed(data: Any) -> Baseline:
    check(Baseline, data, "baseline")
    if data.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {data.get('schema')!r}; expected {SCHEMA}")
    claims = {key: read(Accepted, each, f"claim {key!r}") for key, each in data["claims"].items()}
    for key, claim in claims.items():
        if claim.verdict not in WORDS:
            raise ValueError(f"claim {key!r} has the verdict {claim.verdict!r}")
    return Baseline(**{**data, "claims": claims})


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands there twice")
    return found
