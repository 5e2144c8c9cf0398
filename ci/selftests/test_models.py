"""The registry: loaded once, given back, untrained copies, and whose heads are measured."""

from pathlib import Path

import pytest
import torch

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.processes import ROOT, RunClaims, run_pytest
from claimlens.circuits.kernels.read_out import read_out
from claimlens.fixtures import loading
from claimlens.fixtures.directories import ModelUnavailable
from claimlens.fixtures.loading import Settings
from claimlens.fixtures.models import LoadedModel, Registry

ON_A_GPU = '''
import pytest
from claimlens.circuits import correct


@pytest.mark.gpu(min_gb=100_000)
@pytest.mark.claim("gpu/large", kind="behaviour", source="here")
def test_large(model, ioi, measure):
    """Needs more memory than any GPU has."""
    assert measure(lambda p: correct(model, p.clean), on=ioi, unit="share of prompts") >= 0.5
'''


@pytest.fixture
def registry() -> Registry:
    return Registry(Settings(device="cpu", dtype="float32", seed=0))


@pytest.fixture
def directory(tmp_path: Path) -> str:
    micro.write_directory(tmp_path / "model")
    return str(tmp_path / "model")


def weights(loaded: LoadedModel) -> torch.Tensor:
    found: torch.Tensor = loaded.bridge.W_O
    return found


def test_a_model_is_loaded_once(registry: Registry, directory: str) -> None:
    assert registry.open(directory) is registry.open(directory)
    assert registry.loads == {directory: 1}


def test_a_failure_is_remembered_as_well(registry: Registry, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="no model directory"):
            registry.open(missing)
    assert registry.loads == {missing: 1}


def test_an_untrained_copy_is_made_once_per_seed(registry: Registry, directory: str) -> None:
    loaded = registry.open(directory)
    first, other = registry.untrained(loaded, 1), registry.untrained(loaded, 2)
    assert registry.untrained(loaded, 1) is first
    assert not torch.equal(weights(first), weights(other))
    assert not torch.equal(weights(first), weights(loaded))
    assert first.roles is loaded.roles
    assert first.identity["revision"] != loaded.identity["revision"]


def test_an_untrained_copy_is_the_same_in_another_process(directory: str) -> None:
    copies = []
    for _ in range(2):
        registry = Registry(Settings(device="cpu", dtype="float32", seed=0))
        copies.append(registry.untrained(registry.open(directory), 1))
    assert torch.equal(weights(copies[0]), weights(copies[1]))


def test_a_closed_model_and_its_copies_are_given_back(registry: Registry, directory: str) -> None:
    loaded = registry.open(directory)
    registry.untrained(loaded, 1)
    registry.close(directory)
    with pytest.raises(KeyError, match="not loaded by the registry"):
        registry.of(loaded.bridge)
    registry.open(directory)
    assert registry.loads[directory] == 2


def test_logits_that_are_not_read_out_by_the_unembedding_are_refused(
    registry: Registry, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a model that scales its logits once more."""
    monkeypatch.setattr(loading, "read_out", lambda bridge, x: 0.5 * read_out(bridge, x))
    with pytest.raises(ModelUnavailable, match=r"away from W_U x \+ b_U of its last residual"):
        registry.open(directory)


def test_gpt2_is_measured_on_its_published_heads() -> None:
    done = run_pytest(ROOT, "claims", "--claims-model", "gpt2", "--collect-only", "-q", path=[])
    assert done.code == 0, done.output
    for head in ("L9H9", "L9H6", "L10H0"):
        assert f"test_name_movers_attend_to_the_indirect_object[gpt2-{head}]" in done.output
    assert "test_negative_heads_lower_the_logit_of_what_they_attend_to[gpt2-L10H7]" in done.output


def test_a_claim_for_a_large_gpu_is_not_applicable_here(run_claims: RunClaims) -> None:
    done = run_claims({"test_gpu.py": ON_A_GPU})
    assert "models loaded: none" in done.output
    assert "needs a GPU with 100000 GB; this machine offers" in done.output
    assert "1 skipped" in done.output


def test_claims_share_the_prompts_that_they_grow_to(registry: Registry, directory: str) -> None:
    from claimlens.fixtures.bench import PromptSets

    few = PromptSets(registry.open(directory)).ioi(4)
    assert registry.grown(few, 8) is registry.grown(few, 8)
    assert len(registry.grown(few, 8)) == 8
    assert registry.grown(few.shuffled(1), 8) is not registry.grown(few, 8)
    with pytest.raises(ValueError, match="cannot grow"):
        registry.grown(few.select([0, 1]), 8)
