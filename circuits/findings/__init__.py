"""Published circuits and figures as data, each with its source and its doubt."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from claimlens.circuits.findings.roles import ROLE_IDS as ROLE_IDS
from claimlens.circuits.findings.roles import circuit_of as circuit_of


@dataclass(frozen=True)
class Finding:
    """One published figure: what the source reports, not what anybody measured here."""

    id: str
    statement: str
    value: Any
    unit: str
    source: str
    model: str
    caveat: str = ""
    heads: tuple[str, ...] = ()
    processing: str = ""
    position: str = ""
    expected: str = "holds"


def finding(id: str) -> Finding:
    """The published finding of this id; raises KeyError with the nearest ids."""
    known = all_findings()
    if id not in known:
        near = ", ".join(difflib.get_close_matches(id, known, 3)) or "none is near"
        raise KeyError(f"no published finding {id!r}; nearest: {near}")
    return known[id]


@cache
def all_findings() -> dict[str, Finding]:
    """Every published finding, by id."""
    text = files(__name__).joinpath("published.json").read_text(encoding="utf-8")
    rows = json.loads(text)["findings"]
    return {row["id"]: Finding(**{**row, "heads": tuple(row.get("heads", ()))}) for row in rows}
