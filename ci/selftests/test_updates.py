"""Real updates of the shipped model, and what the gate must say of each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from claimlens.ci.faults import model_updates
from claimlens.ci.faults.count import Count
from claimlens.ci.faults.forked import import_all
from claimlens.ci.faults.model_updates import ACCEPTED, CASES, FALSE, MISSED, OTHER, REFUSED
from claimlens.fixtures.names import DEFAULT_DIRECTORY

SEED = 0


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
