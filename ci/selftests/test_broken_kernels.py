"""Identities have no model on which they are false: here a kernel is broken, and they go red."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from claimlens.circuits.kernels import query_intervention
from claimlens.circuits.verdict import Ledger, Unmet
from claimlens.fixtures import results as keeping
from claimlens.fixtures.bench import Bench
from claimlens.fixtures.measure import Measure
from claimlens.fixtures.result_keys import Key, key_of
from claimlens.fixtures.results import ResultCache

CALIBRATION = "claimlens.claims.query.test_calibration"
KEPT = "claimlens.claims.query.test_kept_results"
PLAIN_NOISING: Callable[..., Tensor] = import_module(CALIBRATION).noising
PLAIN_CHANGE: Callable[..., Any] = query_intervention._change


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench("default")


def verdict(claim: str, bench: Bench, tmp_path: Path) -> str:
    """The word of an identity on the default model, its body run once."""
    module, name = claim.split("::")
    ledger = Ledger(0.99, bench.loaded.noise_floor, 0)
    given: dict[str, Any] = {
        "model": bench.model,
        "ioi": bench.ioi(16),
        "results": ResultCache(None),
        "tmp_path": tmp_path,
        "measure": Measure(ledger),
    }
    body = getattr(import_module(module), name)
    wanted = body.__code__.co_varnames[: body.__code__.co_argcount]
    try:
        body(**{argument: given[argument] for argument in wanted})
    except Unmet as unmet:
        return str(unmet.verdict.word)
    return str(ledger.word())


def forgets(*left_out: str) -> Callable[..., Key]:
    """A key that leaves out arguments, as the seed's did."""

    def key(kernel: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, weigh: bool) -> Key:
        names = ("model", "prompts", "heads", "vector", "scales")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        plain = {"scales": (0.0, 1.0), "norm": "free"}
        given |= {name: plain[name] for name in left_out}
        return key_of(kernel, (), given, weigh=weigh)

    return key


def of_the_wrong_sign(found: Tensor, clean: Tensor, corrupted: Tensor) -> Tensor:
    return -PLAIN_NOISING(found, clean, corrupted)


def frozen_as_free(*given: Any) -> Any:
    *others, norm, place = given
    return PLAIN_CHANGE(*others, "free" if norm == "frozen" else norm, place)


def half_read(self: ResultCache, folder: Path, key: Key) -> Any:
    found = PLAIN_READ(self, folder, key)
    if found is None:
        return None
    assert isinstance(found.value, dict)
    return replace(found, value={name: value / 2 for name, value in found.value.items()})


PLAIN_READ = ResultCache._read
METRICS = f"{CALIBRATION}::test_the_metrics_are_calibrated"
PARTS = f"{CALIBRATION}::test_the_effects_of_both_parts_add_up"
SWEEPS = f"{KEPT}::test_a_kept_sweep_is_the_measured_one"
BROKEN: list[tuple[str, Any, str, Any]] = [
    (METRICS, import_module(CALIBRATION), "noising", of_the_wrong_sign),
    (METRICS, import_module(CALIBRATION), "denoising", PLAIN_NOISING),
    (PARTS, query_intervention, "_change", frozen_as_free),
    (SWEEPS, keeping, "key_of", forgets("scales")),
    (SWEEPS, keeping, "key_of", forgets("norm")),
    (SWEEPS, ResultCache, "_read", half_read),
    (SWEEPS, ResultCache, "_keep", lambda *_: None),
]
IDS = [f"{claim.split('::test_')[1]}-{name}-{i}" for i, (claim, _, name, _) in enumerate(BROKEN)]


@pytest.mark.parametrize(("claim", "where", "name", "broken"), BROKEN, ids=IDS)
def test_an_identity_goes_red_on_a_broken_kernel(
    claim: str,
    where: Any,
    name: str,
    broken: Any,
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert verdict(claim, bench, tmp_path / "plain") == "holds"
    monkeypatch.setattr(where, name, broken)
    assert verdict(claim, bench, tmp_path / "broken") == "refuted"
