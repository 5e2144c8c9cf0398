"""Real updates of the shipped model, and what the gate must say of each."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from claimlens.ci.selftests import updates
from claimlens.ci.selftests.processes import OUTSIDE_CI, ROOT, Finished, run_pytest
from claimlens.circuits.parts import Head
from claimlens.fixtures.names import DEFAULT_DIRECTORY

CLAIMS = ("claims/ioi/test_task.py", "claims/ioi/test_name_movers.py")
MOVER = Head(2, 0)
FIRST = ("--claims-baseline=create", "--claims-reason=shipped")


def same(source: Path, target: Path) -> Path:
    return updates.rewritten(source, target, lambda state: None)


@dataclass(frozen=True)
class Case:
    """An update, the exit code it must have, and what must become of some findings."""

    make: Callable[[Path, Path], Path]
    code: int
    outcomes: dict[str, str]


CASES = {
    "the same": Case(same, 0, {}),
    "quantised to int8": Case(updates.quantised, 0, {}),
    "rescaled": Case(lambda a, b: updates.rescaled(a, b, seed=1), 0, {}),
    "heads in another order": Case(
        lambda a, b: updates.permuted(a, b, seed=1),
        0,
        {f"ioi/name-movers-attend-io {MOVER}": "moved"},
    ),
    "a head pruned": Case(
        lambda a, b: updates.pruned(a, b, MOVER),
        10,
        {
            f"ioi/name-movers-raise-io {MOVER}": "broken",
            f"ioi/name-movers-attend-io {MOVER}": "broken",
            "ioi/logit-diff": "weakened",
        },
    ),
    "an earlier checkpoint": Case(
        lambda a, b: updates.checkpoint(a, b, step=200), 10, {"ioi/accuracy": "broken"}
    ),
    "another rule": Case(
        lambda a, b: updates.finetuned(a, b, seed=0),
        10,
        {"ioi/logit-diff": "broken", f"ioi/name-movers-raise-io {MOVER}": "broken"},
    ),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the shipped model, its baseline, and its run."""
    folder = tmp_path_factory.mktemp("updates")
    same(DEFAULT_DIRECTORY, folder / "model")
    made = go(folder, *FIRST)
    assert made.code == 0, made.output
    return folder


def go(folder: Path, *options: str) -> Finished:
    places = (f"--claims-store={folder / 'runs'}", f"--claims-baselines={folder / 'baselines'}")
    model = f"--claims-model={folder / 'model'}"
    return run_pytest(ROOT, *CLAIMS, model, *places, *options, path=[], **OUTSIDE_CI)


@pytest.mark.parametrize("name", CASES)
def test_an_update_has_the_outcome_that_it_must(name: str, begun: Path, tmp_path: Path) -> None:
    case = CASES[name]
    fresh = case.make(DEFAULT_DIRECTORY, tmp_path / "fresh")
    shutil.rmtree(begun / "model")
    shutil.copytree(fresh, begun / "model")
    run = go(begun, "--claims-gate=enforce")
    assert run.code == case.code, run.output
    found = re.findall(r"^  (\w+) +(ioi/\S+(?: L\dH\d)?): ", run.output, re.MULTILINE)
    outcomes = {key: outcome for outcome, key in found}
    assert case.outcomes.items() <= outcomes.items(), run.output
    if not case.outcomes:
        assert outcomes == {}, run.output


@pytest.mark.parametrize(("name", "apart"), [("rescaled", 0.0), ("heads in another order", 1e-4)])
def test_these_updates_leave_the_function_as_it_is(name: str, apart: float, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    tokens = torch.randint(1, 300, (4, 20), generator=torch.Generator().manual_seed(0))
    fresh = CASES[name].make(DEFAULT_DIRECTORY, tmp_path / "fresh")
    with torch.no_grad():
        old, new = (
            AutoModelForCausalLM.from_pretrained(d, dtype=torch.float32)(tokens).logits
            for d in (DEFAULT_DIRECTORY, fresh)
        )
    assert float((old - new).abs().max()) <= apart
