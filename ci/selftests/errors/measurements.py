"""Measurements that are no measurements, and comparisons that say nothing."""

from __future__ import annotations

import numpy as np

from claimlens.ci.selftests.errors.entry import Entry
from claimlens.circuits.parts import Head, Position
from claimlens.circuits.statistics import interval
from claimlens.circuits.verdict import Ledger, Measurement

_IDS = ("a", "b", "c", "d")
_NAN, _INFINITE = float("nan"), float("inf")


def _m(*values: float, ids: tuple[str, ...] = _IDS, unit: str = "logits") -> Measurement:
    return Measurement(np.array(values), ids, ids, unit, Ledger())


_EFFECT = _m(1.0, 2.0, 3.0, 4.0)
_SAME = _m(1.0, 1.0, 1.0, 1.0)
_RATIO = _EFFECT / _SAME


def _interval(templates: tuple[str, ...], values: list[float]) -> object:
    return interval(np.array(values), np.ones(len(values)), templates, 0.95, 0)


ENTRIES = (
    Entry(lambda _: _m(1.0, 2.0)),
    Entry(lambda _: _m(1.0, _NAN, 3.0, 4.0)),
    Entry(lambda _: _EFFECT - _m(1.0, ids=("z",))),
    Entry(lambda _: _EFFECT - _m(1.0, 2.0, 3.0, 4.0, unit="nats")),
    Entry(lambda _: _EFFECT / _m(-1.0, 1.0, -1.0, 1.0)),
    Entry(lambda _: _RATIO - _RATIO),
    Entry(lambda _: _EFFECT >= True),
    Entry(lambda _: _EFFECT >= _INFINITE),
    Entry(lambda _: _SAME >= 0.5),
    Entry(lambda _: _EFFECT == 1.0),
    Entry(lambda _: bool(_EFFECT)),
    Entry(lambda _: _interval(("t", "t"), [1.0, 2.0])),
    Entry(lambda _: _interval(("t", "u"), [1.0, 1.0])),
    Entry(lambda _: Head.parse("nine")),
    Entry(lambda _: Position.parse("S1+")),
)
