"""Measurements that are no measurements, and comparisons that say nothing."""

from __future__ import annotations

import warnings

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


def _one_template() -> Measurement:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    return Measurement(values, _IDS, ("t",) * 4, "logits", Ledger())


def _interval(templates: tuple[str, ...], values: list[float]) -> object:
    return interval(np.array(values), np.ones(len(values)), templates, 0.95, 0)


def _hardly_any_spread() -> object:
    names = tuple(f"t{n}" for n in range(30))
    with warnings.catch_warnings():  # scipy's own, of the same
        warnings.simplefilter("ignore")
        return _interval(names, [0.0] * 29 + [1e-300])


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
    Entry(lambda _: _EFFECT - 1.0),  # type: ignore[operator]  # what is refused
    Entry(lambda _: _one_template() >= 0.5),
    Entry(lambda _: bool(_EFFECT)),
    Entry(lambda _: _interval(("t", "t"), [1.0, 2.0])),
    Entry(lambda _: _interval(("t", "u"), [1.0, 1.0])),
    Entry(lambda _: _hardly_any_spread()),
    Entry(lambda _: Head.parse("nine")),
    Entry(lambda _: Position.parse("S1+")),
)
