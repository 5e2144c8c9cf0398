"""Real updates of the shipped model, and what the gate must say of each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from claimlens.ci.baseline import Baseline
from claimlens.ci.faults import model_updates
from claimlens.ci.faults.count import Count
from claimlens.ci.faults.forked import STORE, Forked, import_all
from claimlens.ci.faults.model_updates import (
    ACCEPTED,
    CASES,
    CLAIMS,
    FALSE,
    FOUND,
    MISSED,
    MODEL,
    OTHER,
    REFUSED,
)
from claimlens.ci.report.compared import compared
from claimlens.ci.report.study import Study
from claimlens.ci.run_files import read_run, run_files
from claimlens.fixtures.names import DEFAULT_DIRECTORY

SEED = 0


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, found_by_all: None) -> Path:
    """A folder with a copy of the shipped model, its baseline, and its run."""
    import_all()
    return model_updates.begin(tmp_path_factory.mktemp("updates") / "begun", SEED)


@pytest.mark.parametrize("name", CASES)
def test_an_update_has_the_outcome_that_it_must(name: str, begun: Path) -> None:
    code, output = model_updates.update(begun, CASES[name], SEED)
    count = Count("updates", name, tried=1)
    count.must_not(FALSE, MISSED, OTHER)
    model_updates.judge(count, CASES[name], code, output)
    assert count.passed, output
    assert told_by_the_store(begun) == sorted(FOUND.findall(output))


def told_by_the_store(home: Path) -> list[tuple[str, str]]:
    """What the report makes of the same runs, measuring nothing: outcome and finding."""
    runs = [read_run(path) for path in run_files(home / STORE)]
    baseline = Baseline.of(home / "baselines", "./model")
    results = compared(Study.of(runs), {"./model": baseline})
    found = [(f.outcome, f.key) for result in results for f in result.findings]
    return sorted(each for each in found if each[0] != "unchanged")


def test_two_gates_at_once_say_what_one_says(begun: Path, tmp_path: Path) -> None:
    """In one store, beside one baseline."""
    model_updates.put(begun, CASES["a head pruned"], SEED)
    baseline = (begun / "baselines" / "model.json").read_bytes()
    before = set(run_files(begun / STORE))
    homes = [shutil.copytree(begun, tmp_path / name, symlinks=True) for name in "ab"]
    places = [f"--claims-store={begun / STORE}", f"--claims-baselines={begun / 'baselines'}"]
    options = (*CLAIMS, MODEL, "--claims-gate=enforce", *places)
    both = [Forked.start(home, *options) for home in homes]
    assert [gate.wait() for gate in both] == [REFUSED, REFUSED]
    told = [sorted(FOUND.findall(gate.output)) for gate in both]
    assert told[0] == told[1] != []
    fresh = [read_run(path) for path in set(run_files(begun / STORE)) - before]
    assert sum(run.models == ["./model"] and run.end is not None for run in fresh) == 2
    assert (begun / "baselines" / "model.json").read_bytes() == baseline


@pytest.mark.parametrize(
    ("name", "code", "told", "thing"),
    [
        ("the same", REFUSED, "", FALSE),
        ("the same", 1, "", FALSE),
        ("a head pruned", ACCEPTED, "", MISSED),
        ("a head pruned", 11, "", MISSED),
        ("a head pruned", REFUSED, "  broken     ioi/logit-diff: holds, now refuted", OTHER),
        ("rescaled", ACCEPTED, "  weakened   ioi/logit-diff: holds, now holds", OTHER),
        ("heads in another order", ACCEPTED, "", OTHER),
    ],
)
def test_another_outcome_is_noticed(name: str, code: int, told: str, thing: str) -> None:
    count = Count("updates", name, tried=1)
    count.must_not(FALSE, MISSED, OTHER)
    model_updates.judge(count, CASES[name], code, told)
    assert count.bad[thing] == 1


@pytest.mark.parametrize(("name", "apart"), [("rescaled", 0.0), ("heads in another order", 1e-4)])
@pytest.mark.parametrize("seed", range(5))
def test_these_updates_leave_the_function_as_it_is(
    name: str, apart: float, seed: int, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    tokens = torch.randint(1, 300, (4, 20), generator=torch.Generator().manual_seed(0))
    fresh = CASES[name].make(DEFAULT_DIRECTORY, tmp_path / "fresh", seed)
    with torch.no_grad():
        old, new = (
            AutoModelForCausalLM.from_pretrained(d, dtype=torch.float32)(tokens).logits
            for d in (DEFAULT_DIRECTORY, fresh)
        )
    assert float((old - new).abs().max()) <= apart
