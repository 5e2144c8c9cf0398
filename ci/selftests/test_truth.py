"""The suite on models whose truth is known: every cell of the truth table, recomputed.

`truth_table.toml` says, for every planted model, which claims are not simply true, and why.
"""

from __future__ import annotations

import shutil
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from claimlens.ci.selftests.processes import OWN_PLUGINS, ROOT, run_pytest
from claimlens.ci.selftests.suite import row, run_suite, run_suites
from claimlens.ci.store import read_run
from claimlens.circuits.record import ClaimRecord

SHUFFLED = """
import pytest


@pytest.fixture(scope="session")
def ioi(ioi):
    return ioi.shuffled(11)


@pytest.fixture(scope="session")
def repeated_tokens(repeated_tokens):
    return repeated_tokens.shuffled(11)
"""
"""A conftest.py: labels and answers that mean nothing, in the place of every prompt set."""
TABLE = Path(__file__).with_name("truth_table.toml")
GREEN = ("holds", "not applicable")
UNTRAINED = [f"default:untrained-{seed}" for seed in (1, 2, 3)]


def truth() -> dict[str, dict[str, str]]:
    """By model: the verdict of every claim that is not plainly true there."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {
        model: {name: cell["verdict"] for name, cell in cells.items()}
        for model, cells in table.items()
    }


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """By model: the verdict of every claim, measured now."""
    records = run_suites(list(truth()), tmp_path_factory.mktemp("truth"))
    return by_model(records)


def by_model(records: list[ClaimRecord]) -> dict[str, dict[str, str]]:
    verdicts: dict[str, dict[str, str]] = defaultdict(dict)
    for record in records:
        verdicts[record.model["name"]][row(record)] = record.verdict
    return verdicts


@pytest.mark.parametrize("model", list(truth()))
def test_each_model_is_red_on_exactly_the_claims_of_the_table(
    model: str, measured: dict[str, dict[str, str]]
) -> None:
    not_true = {name: v for name, v in measured[model].items() if v != "holds"}
    assert not_true == truth()[model]


def test_every_cell_of_the_table_has_its_reason() -> None:
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    for model, cells in table.items():
        for name, cell in cells.items():
            assert len(cell["because"].split()) >= 4, f"{model}, {name}: say why"


def test_every_mutant_turns_a_claim_red() -> None:
    for model, cells in truth().items():
        if model not in ("planted", "default"):
            assert any(v not in GREEN for v in cells.values()), f"{model} breaks nothing"


def test_every_mechanism_claim_is_red_on_a_mutant(measured: dict[str, dict[str, str]]) -> None:
    red = {
        name
        for model, cells in measured.items()
        for name, v in cells.items()
        if v not in GREEN and model != "planted:decoys"
    }
    holds_intact = {name for name, v in measured["planted"].items() if v == "holds"}
    assert holds_intact - red == set()


def test_the_intact_planted_model_has_no_red_claim(measured: dict[str, dict[str, str]]) -> None:
    assert set(measured["planted"].values()) <= set(GREEN)


def test_no_mechanism_claim_holds_on_the_decoys(measured: dict[str, dict[str, str]]) -> None:
    decoyed = {name: v for name, v in measured["planted:decoys"].items() if name.split()[1:]}
    assert decoyed
    assert "holds" not in decoyed.values()


@pytest.mark.parametrize("model", UNTRAINED)
def test_no_claim_holds_on_an_untrained_copy(
    model: str, untrained: dict[str, dict[str, str]]
) -> None:
    assert untrained[model]
    assert "holds" not in untrained[model].values()


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return by_model(run_suite(UNTRAINED, tmp_path_factory.mktemp("untrained")))


def test_no_mechanism_claim_holds_with_shuffled_prompts(tmp_path: Path, clone_site: Path) -> None:
    shutil.copytree(ROOT / "claims", tmp_path / "claims")
    (tmp_path / "conftest.py").write_text(SHUFFLED)
    options = ["--claims-model=default", "--claims-model=planted", "--claims-store=runs"]
    done = run_pytest(tmp_path, *OWN_PLUGINS, "claims", *options, path=[clone_site])
    (file,) = (tmp_path / "runs").glob("*.jsonl")
    mechanisms = [record for record in read_run(file)[1] if record.kind == "mechanism"]
    assert len(mechanisms) > 20, done.output
    assert [row(r) for r in mechanisms if r.verdict == "holds"] == []


def test_a_permuted_decoder_breaks_the_sae_claims(tmp_path: Path) -> None:
    records = run_suite(["default:permuted-decoder"], tmp_path, "-k", "sae")
    assert {r.claim: r.verdict for r in records} == {
        "sae/loss-recovered": "refuted",
        "sae/sparse-and-faithful": "refuted",
    }
