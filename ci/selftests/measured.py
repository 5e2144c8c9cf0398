"""Measurements made from numbers, for the tests of verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy import ndarray

from claimlens.circuits.verdict import Ledger, Measurement, Relation

RELATIONS: tuple[Relation, ...] = get_args(Relation)
MIRRORED: dict[Relation, Relation] = {">=": "<=", ">": "<", "<=": ">=", "<": ">"}


def measured(
    values: Sequence[float] | ndarray,
    ledger: Ledger | None = None,
    *,
    prefix: str = "p",
    unit: str = "logits",
    share: bool = False,
    exact: bool = False,
) -> Measurement:
    """A measurement of independent prompts."""
    array = np.asarray(values, dtype=np.float64)
    return Measurement(
        values=array,
        ids=tuple(f"{prefix}{i}" for i in range(len(array))),
        templates=tuple(f"t{i}" for i in range(len(array))),
        unit=unit,
        ledger=ledger if ledger is not None else Ledger(),
        share=share,
        exact=exact,
    )


def around(center: float, n: int = 30, spread: float = 0.1, seed: int = 0) -> ndarray:
    """Values whose mean is exactly `center`."""
    noise = np.random.default_rng(seed).normal(0, spread, n)
    values: ndarray = center + noise - noise.mean()
    return values
