"""The gate from end to end: a baseline, an update of the model, a decision."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from claimlens.ci.baseline import Baseline
from claimlens.ci.selftests import micro
from claimlens.ci.selftests.micro import Run
from claimlens.ci.selftests.processes import OUTSIDE_CI

CLAIMS = '''
import torch
import pytest

from claimlens.circuits import logit_diff

def copying(model, head):
    """The trace of a head's OV matrix."""
    W_V, W_O = model.blocks[head.layer].attn.W_V, model.blocks[head.layer].attn.W_O
    return torch.trace(W_V[head.index] @ W_O[head.index])

@pytest.mark.claim("copy/subject", kind="behaviour", source="here")
def test_subject(model, ioi, measure):
    """The name said twice is above the one said once."""
    assert measure(lambda p: -logit_diff(model, p.clean), on=ioi, unit="logits") >= 0.3

@pytest.mark.claim("copy/head", kind="weights", source="here")
@pytest.mark.role("ioi/name_mover")
def test_head(model, head, measure):
    """The head copies."""
    assert measure(lambda: copying(model, head), unit="x") >= 10
'''
FIRST = ("--claims-baseline=create", "--claims-reason=first")


def updated(folder: Path, share: float = 1.0, heads: Iterable[int] = (0,), seed: int = 0) -> None:
    """The model of which some heads copy, a share of what they did; noise with a seed."""
    model: Any = micro.copying_model()
    block, width = model.transformer.h[0].attn, micro.WIDTH // micro.HEADS
    copied = torch.zeros(micro.WIDTH)
    for head in heads:
        copied[head * width : (head + 1) * width] = 1
    noise = torch.randn(micro.WIDTH, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        block.c_attn.weight[:, 2 * micro.WIDTH :] *= copied
        block.c_proj.weight *= share
        block.c_proj.bias += 1e-3 * seed * noise
    micro.write_directory(folder / "model", model, {"ioi/name_mover": ["0.0"]})


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two claims, a model of which they hold, and the baseline that says so."""
    folder = tmp_path_factory.mktemp("gate") / "suite"
    folder.mkdir()
    updated(folder)
    (folder / "test_copy.py").write_text(CLAIMS)
    made = go(folder, *FIRST)
    assert made.code == 0, made.output
    assert "baseline: create " in made.output
    return folder


@pytest.fixture
def suite(begun: Path, tmp_path: Path) -> Path:
    """The same, to change."""
    return Path(shutil.copytree(begun, tmp_path / "suite"))


@pytest.fixture
def bare(suite: Path) -> Path:
    """The same without its baseline and its run."""
    shutil.rmtree(suite / "claims")
    shutil.rmtree(suite / "runs")
    return suite


def go(folder: Path, *options: str, model: str = "./model", **env: str) -> Run:
    return micro.run_pytest(folder, f"--claims-model={model}", *options, env={**OUTSIDE_CI, **env})


def gate(folder: Path, *options: str) -> Run:
    return go(folder, "--claims-gate=enforce", *options)


def outcomes(run: Run) -> dict[str, str]:
    """What the gate printed of each finding that changed."""
    found = re.findall(r"^  (\w+) +(copy/\S+(?: L\dH\d)?): ", run.output, re.MULTILINE)
    return {key: outcome for outcome, key in found}


def baseline(folder: Path) -> Baseline:
    return Baseline.load(folder / "claims" / "baselines" / "model.json")


def test_the_same_model_is_accepted(suite: Path) -> None:
    again = gate(suite)
    assert again.code == 0
    assert re.search(r"^gate: \./model \(sha256:.* to sha256:.*\): accepted$", again.output, re.M)
    assert "  2 unchanged" in again.output


def test_a_finding_that_is_weaker_still_holds(suite: Path) -> None:
    updated(suite, share=0.7)
    run = gate(suite)
    assert run.code == 0, run.output
    assert outcomes(run)["copy/subject"] == "weakened"
    assert re.search(
        r"weakened +copy/subject: holds \(.* >= 0\.3: [\d.]+ to [\d.]+ logits, -", run.output
    )


def test_a_broken_finding_is_refused(suite: Path) -> None:
    updated(suite, share=0.1)
    run = gate(suite)
    assert run.code == 10
    assert outcomes(run) == {"copy/subject": "broken", "copy/head L0H0": "broken"}
    assert "): REFUSED" in run.output
    assert "Traceback" not in run.output


def test_a_report_says_the_same_and_leaves_the_exit_code(suite: Path) -> None:
    updated(suite, share=0.1)
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(suite / "summary.md")}
    run = go(suite, "--claims-gate=report", **github)
    assert run.code == 1
    assert "): REFUSED" in run.output
    assert "::error title=broken%3A copy/subject::" in run.output
    assert "## Gate: ./model: REFUSED" in (suite / "summary.md").read_text()


def test_a_role_that_moved_is_no_loss(suite: Path) -> None:
    updated(suite, heads=(1,))
    run = gate(suite)
    assert run.code == 0, run.output
    assert outcomes(run)["copy/head L0H0"] == "moved"
    assert "the role ioi/name_mover is now played by L0H1" in run.output


def test_what_comes_to_hold_is_repaired(bare: Path) -> None:
    updated(bare, share=0.1)
    assert go(bare, *FIRST).code == 1
    unchanged = gate(bare)
    assert unchanged.code == 0
    assert "  2 unchanged" in unchanged.output
    updated(bare)
    run = gate(bare)
    assert run.code == 0
    assert set(outcomes(run).values()) == {"repaired"}


def test_a_model_that_does_not_load_is_not_enough(suite: Path) -> None:
    (suite / "model" / "model.safetensors").write_bytes(b"damaged")
    run = gate(suite)
    assert run.code == 11
    assert set(outcomes(run).values()) == {"unclear"}


def test_a_claim_that_is_gone_is_missing_and_one_that_is_new_is_new(suite: Path) -> None:
    (suite / "test_copy.py").write_text(CLAIMS.replace('"copy/subject"', '"copy/other"'))
    run = gate(suite)
    assert run.code == 11
    assert outcomes(run) == {"copy/subject": "missing", "copy/other": "new"}


def test_without_a_baseline_there_is_no_decision(bare: Path) -> None:
    run = gate(bare)
    assert run.code == 11
    assert "there is no baseline " in run.output
    assert "make one with --claims-baseline create" in run.output


def test_another_dtype_is_not_comparable(suite: Path) -> None:
    run = gate(suite, "--claims-dtype=float64")
    assert run.code == 11
    assert "not comparable with the baseline until it is made anew: dtype was float32" in run.output


def test_the_accepted_model_is_measured_again_where_its_run_is_gone(suite: Path) -> None:
    (suite / "model").rename(suite / "old")
    for file in (suite / "runs").glob("*.jsonl"):
        file.unlink()
    updated(suite, share=0.7)
    blind = gate(suite)
    assert "name one with --claims-gate-old" in blind.output
    run = gate(suite, "--claims-gate-old=./old")
    assert "gate: measuring the accepted model, ./old" in run.output
    assert outcomes(run)["copy/subject"] == "weakened"
    for file in (suite / "runs").glob("*.jsonl"):
        file.unlink()
    wrong = gate(suite, "--claims-gate-old=./model")
    assert "gate: ./model is not the accepted model sha256:" in wrong.output


def test_a_run_that_was_cut_short_decides_nothing(suite: Path) -> None:
    cut = CLAIMS.replace("    W_V, W_O =", "    raise KeyboardInterrupt\n    W_V, W_O =")
    (suite / "test_copy.py").write_text(cut)
    run = gate(suite)
    assert run.code == 2
    assert "gate: no decision: pytest ended with exit code 2" in run.output


def test_results_that_could_not_be_kept_are_not_enough(suite: Path) -> None:
    (suite / "file").write_text("in the way")
    run = gate(suite, "--claims-store=file/runs")
    assert run.code == 11
    assert "gate: not enough evidence: the results could not be kept" in run.output


# --- intents -------------------------------------------------------------------------------------


def test_accepting_one_claim_leaves_the_others(suite: Path) -> None:
    before = baseline(suite)
    updated(suite, share=0.1)
    run = go(
        suite,
        "--claims-baseline=accept",
        "--claims-accept=copy/subject",
        "--claims-reason=meant so",
    )
    after = baseline(suite)
    assert "baseline: accept " in run.output
    assert after.claims["copy/subject"].verdict == "refuted"
    assert after.claims["copy/subject"].reason == "meant so"
    assert after.claims["copy/head L0H0"] == before.claims["copy/head L0H0"]
    assert outcomes(gate(suite)) == {"copy/head L0H0": "broken"}


def test_an_update_takes_all_and_keeps_what_did_not_change(suite: Path) -> None:
    updated(suite, share=0.7)
    go(suite, "--claims-baseline=update", "--claims-reason=second")
    after = baseline(suite)
    assert after.claims["copy/subject"].reason == "second"
    assert gate(suite).code == 0
    go(suite, "--claims-baseline=update", "--claims-reason=third")
    assert baseline(suite).claims == after.claims


def test_trim_forgets_what_is_gone(suite: Path) -> None:
    (suite / "test_copy.py").write_text(CLAIMS.replace('"copy/subject"', '"copy/other"'))
    go(suite, "--claims-baseline=trim")
    assert list(baseline(suite).claims) == ["copy/head L0H0"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--claims-baseline=create",), "--claims-baseline create needs a reason"),
        ((*FIRST, "-k", "head"), "create takes a whole run: this one was narrowed by -k"),
        ((*FIRST, "test_copy.py::test_head"), "this one was narrowed by a test's name"),
        ((*FIRST, "-x"), ""),
        (("--claims-baseline=update", "--claims-reason=x"), "there is no baseline of ./model yet"),
    ],
)
def test_an_intent_that_cannot_be_is_refused(
    bare: Path, options: tuple[str, ...], told: str
) -> None:
    run = go(bare, *options)
    assert told in run.output
    assert run.code == (4 if told else 0)
    assert (bare / "claims").exists() is (not told)
    assert "Traceback" not in run.output


def test_ci_changes_no_baseline(bare: Path) -> None:
    run = go(bare, *FIRST, CI="true")
    assert run.code == 4
    assert "never in CI (CI is set)" in run.output
    assert not (bare / "claims").exists()


def test_create_does_not_overwrite(suite: Path) -> None:
    run = go(suite, *FIRST)
    assert run.code == 4
    assert "there is a baseline of ./model already; say update, or accept" in run.output


def test_a_misspelt_claim_is_named(suite: Path) -> None:
    accept = ("--claims-baseline=accept", "--claims-reason=x", "--claims-accept=copy/subjekt")
    assert "did you mean 'copy/subject'?" in go(suite, *accept).output


def test_a_damaged_baseline_is_one_line(suite: Path) -> None:
    file = suite / "claims" / "baselines" / "model.json"
    file.write_text(file.read_text()[:-20])
    run = gate(suite)
    assert run.code == 11
    assert "is damaged: " in run.output
