"""The suite on models whose truth is known: every cell of the truth table, recomputed.

See truth_table.py.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from claimlens.ci.run_files import read_run
from claimlens.ci.selftests.processes import OWN_PLUGINS, ROOT, run_pytest
from claimlens.ci.selftests.suite import run_suite, run_suites
from claimlens.ci.selftests.truth_table import MODELS, cells, verdicts
from claimlens.circuits.kernels.cache import cache
from claimlens.circuits.record import ClaimRecord
from claimlens.fixtures.bench import Bench
from claimlens.fixtures.names import DEFAULT_DIRECTORY

SHUFFLED = """
import pytest


@pytest.fixture(scope="session")
def ioi(ioi):
    return ioi.shuffled(11)


@pytest.fixture(scope="session")
def repeated_tokens(repeated_tokens):
    return repeated_tokens.shuffled(11)


@pytest.fixture(scope="session")
def text(text):
    return text.shuffled(11)


@pytest.fixture(scope="session")
def ioi_swapped(ioi_swapped):
    return ioi_swapped.shuffled(11)


@pytest.fixture(scope="session")
def repeated_tokens_no_bos(repeated_tokens_no_bos):
    return repeated_tokens_no_bos.shuffled(11)
"""
"""A conftest.py: labels and answers that mean nothing, in the place of every prompt set."""
GREEN = ("holds", "not applicable")
DRIVEN = "test_the_first_mlp_drives_the_most_active_latent and not same_position"
UNTRAINED = [f"default:untrained-{seed}" for seed in (1, 2, 3)]


Records = dict[str, dict[str, ClaimRecord]]
"""By model and claim."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Every claim on every model of the table, measured now."""
    return by_model(run_suites(list(MODELS), tmp_path_factory.mktemp("truth")))


def by_model(records: list[ClaimRecord]) -> Records:
    sorted_in: Records = defaultdict(dict)
    for record in records:
        sorted_in[record.model["name"]][record.key] = record
    return sorted_in


@pytest.mark.parametrize("model", list(verdicts()))
def test_each_model_is_red_on_exactly_the_claims_of_the_table(
    model: str, measured: Records
) -> None:
    not_true = {name: r.verdict for name, r in measured[model].items() if r.verdict != "holds"}
    assert not_true == verdicts()[model]


def test_every_cell_of_the_table_has_its_reason() -> None:
    for model, rows in cells().items():
        for name, cell in rows.items():
            assert len(cell["because"].split()) >= 4, f"{model}, {name}: say why"


def test_every_mutant_turns_a_claim_red() -> None:
    for model, words in verdicts().items():
        if model not in ("planted", "default"):
            assert any(v not in GREEN for v in words.values()), f"{model} breaks nothing"


def test_every_claim_is_red_on_a_mutant(measured: Records) -> None:
    """All but identities, which hold on any model: their red case is a kernel that is broken."""
    red = {
        name
        for model, records in measured.items()
        for name, record in records.items()
        if record.verdict not in GREEN and model != "planted:decoys"
    }
    intact = measured["planted"].items()
    hold = {name for name, r in intact if r.verdict == "holds" and r.kind != "identity"}
    assert hold
    assert hold - red == set()


@pytest.mark.parametrize("model", ["planted", "default"])
def test_an_intact_model_is_as_expected(model: str, measured: Records) -> None:
    known = [r for r in measured[model].values() if r.verdict != "not applicable"]
    assert [r.key for r in known if not r.as_expected] == []


def test_no_mechanism_claim_holds_on_the_decoys(measured: Records) -> None:
    decoyed = {name: r.verdict for name, r in measured["planted:decoys"].items() if r.head}
    assert decoyed
    assert "holds" not in decoyed.values()


@pytest.mark.parametrize("model", UNTRAINED)
def test_no_claim_holds_on_an_untrained_copy(model: str, untrained: Records) -> None:
    """No claim but identities, which hold on any model."""
    found = {name: r.verdict for name, r in untrained[model].items() if r.kind != "identity"}
    assert found
    assert [name for name, verdict in found.items() if verdict == "holds"] == []


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return by_model(run_suite(UNTRAINED, tmp_path_factory.mktemp("untrained")))


def test_no_mechanism_claim_holds_with_shuffled_prompts(tmp_path: Path, clone_site: Path) -> None:
    shutil.copytree(ROOT / "claims", tmp_path / "claims")
    (tmp_path / "conftest.py").write_text(SHUFFLED)
    options = ["--claims-model=default", "--claims-model=planted", "--claims-store=runs"]
    done = run_pytest(tmp_path, *OWN_PLUGINS, "claims", *options, path=[clone_site])
    (file,) = (tmp_path / "runs").glob("*.jsonl")
    mechanisms = [record for record in read_run(file).records if record.kind == "mechanism"]
    assert len(mechanisms) > 20, done.output
    assert [r.key for r in mechanisms if r.verdict == "holds"] == []


def test_a_permuted_decoder_refutes_the_sae_claims(tmp_path: Path) -> None:
    records = run_suite(["default:permuted-decoder"], tmp_path, "-k", "sae")
    found = {r.claim: r.verdict for r in records if r.kind != "identity"}
    assert "sae/loss-recovered" in found
    assert {claim: v for claim, v in found.items() if v != "refuted"} == {}


def test_a_first_mlp_that_says_the_same_everywhere_drives_no_latent(tmp_path: Path) -> None:
    """The default with MLP0 at its mean: the SAE's site is still read, and nothing is driven."""
    shutil.copytree(DEFAULT_DIRECTORY, tmp_path / "model")
    file, bench = tmp_path / "model" / "model.safetensors", Bench("default")
    (tmp_path / "model" / "SHA256SUMS").unlink()
    prompts, weights = bench.quotes(96).clean, load_file(file)
    hook = "blocks.0.hook_mlp_out"
    written = cache(bench.model, prompts, [hook])[hook]
    inside = torch.arange(written.shape[1]) < prompts.lengths[:, None]
    weights["transformer.h.0.mlp.c_proj.weight"].zero_()
    weights["transformer.h.0.mlp.c_proj.bias"][:] = written[inside].mean(0)
    save_file(weights, file, {"format": "pt"})
    (record,) = run_suite([str(tmp_path / "model")], tmp_path, "-k", DRIVEN)
    assert (record.claim, record.verdict) == ("sae/mlp0-drives-latent", "refuted")
    assert record.comparisons[0].value == 0
