"""Marks of a claim that say too little, or what nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claimlens.ci.selftests.errors.entry import Entry
from claimlens.fixtures.spec import read_spec


def _claim() -> None:
    """Name movers matter."""
    effect = 0.5
    assert effect > 0


def _silent() -> None:
    pass


def _spec(
    *args: Any, role: Any = None, of: Callable[..., None] = _claim, **given: Any
) -> Callable[[Path], object]:
    marks = {"claim": pytest.Mark("claim", args, given, _ispytest=True)}
    if role is not None:
        marks["role"] = pytest.Mark("role", role[0], role[1], _ispytest=True)
    return lambda _: read_spec(of, marks)


_GOOD: dict[str, Any] = {"kind": "behaviour", "source": "our own"}

ENTRIES = (
    Entry(_spec(kind="behaviour")),
    Entry(_spec("Name Movers", kind="behaviour")),
    Entry(_spec("ioi/x", knd="behaviour")),
    Entry(_spec("ioi/x", kind="belief")),
    Entry(_spec("ioi/x", of=_silent, **_GOOD)),
    Entry(_spec("ioi/x", kind="mechanism", source="our own")),
    Entry(_spec("ioi/x", kind="behaviour")),
    Entry(_spec("ioi/x", kind="behaviour", finding="ioi/taks")),
    Entry(_spec("ioi/x", version="2", **_GOOD)),
    Entry(_spec("ioi/x", expected={"gpt2": "maybe"}, **_GOOD)),
    Entry(_spec("ioi/x", expected={"gpt3/": "refuted"}, **_GOOD)),
    Entry(_spec("ioi/x", role=(("ioi/name_movers",), {}), **_GOOD)),
    Entry(_spec("ioi/x", role=((), {}), **_GOOD)),
    Entry(_spec("ioi/x", role=(("ioi/name_mover",), {"shared_with": "ioi/x"}), **_GOOD)),
)
