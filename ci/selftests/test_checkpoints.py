"""Training checkpoints: found by step or index, from a list or a hub, and claimed as a series."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformer_lens.tools.model_registry.checkpoints import get_checkpoint_labels

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.hub_cache import put
from claimlens.ci.selftests.processes import RunClaims
from claimlens.circuits.findings.checkpoints import schedule_of
from claimlens.circuits.verdict import NotApplicable
from claimlens.fixtures.bench import Bench
from claimlens.fixtures.checkpoints import checkpoints_of, chosen
from claimlens.fixtures.directories import ModelUnavailable
from claimlens.fixtures.loading import Settings
from claimlens.fixtures.models import Registry
from claimlens.fixtures.names import DEFAULT_DIRECTORY, check_name

PYTHIA = "EleutherAI/pythia-micro"
STEPS = [200, 700, 2100, 3000, 3500]
SIZE = 32 * 48
"""Tokens a step of the embedded model's training."""


def listed(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    """A directory model with this list of checkpoints."""
    micro.write_directory(folder)
    (folder / "checkpoints.json").write_text(json.dumps({"schema": 1, "checkpoints": rows}))
    return str(folder)


def row(step: int, directory: str = ".") -> dict[str, Any]:
    return {"step": step, "tokens": step * 10, "directory": directory}


# --- which there are ------------------------------------------------------------------------------


def test_the_default_says_after_how_many_steps_and_tokens() -> None:
    found = checkpoints_of("default")
    assert [c.step for c in found] == STEPS
    assert [c.tokens for c in found] == [step * SIZE for step in STEPS]
    assert [c.index for c in found] == list(range(5))
    assert found[-1].place == "."


@pytest.mark.parametrize(
    "name", ["EleutherAI/pythia-70m", "EleutherAI/pythia-1b-v0", "stanford-crfm/alias-gpt2-small"]
)
def test_a_familys_schedule_is_that_of_transformer_lens(name: str) -> None:
    schedule = schedule_of(name)
    assert schedule is not None
    assert (list(schedule.steps), "step") == get_checkpoint_labels(name)
    assert [c.step for c in checkpoints_of(name)] == list(schedule.steps)


def test_a_hub_checkpoint_is_a_revision() -> None:
    assert checkpoints_of("EleutherAI/pythia-70m")[10].place == "step512"
    assert checkpoints_of("stanford-crfm/alias-gpt2-small-x21")[-1].place == "checkpoint-400000"
    assert checkpoints_of("EleutherAI/pythia-70m@main")[-1].tokens == 143_000 * 2**21


@pytest.mark.parametrize("name", ["gpt2", "planted", "default:untrained-1", "default:step-200"])
def test_what_has_no_series_is_not_applicable(name: str) -> None:
    with pytest.raises(NotApplicable):
        checkpoints_of(name)


def test_a_long_series_waits_for_a_choice() -> None:
    with pytest.raises(NotApplicable, match=r"154 checkpoints .*--claims-checkpoints=10,25"):
        chosen("EleutherAI/pythia-70m", None)
    picked = chosen("EleutherAI/pythia-70m", [-1, 10, 0, -1])
    assert [c.step for c in picked] == [0, 512, 143_000]
    assert [c.step for c in chosen("default", None)] == STEPS
    with pytest.raises(NotApplicable, match="asks for 0,5"):
        chosen("default", [0, 5])


BAD_LISTS = {
    "no-rows": ([], "expected whole numbers"),
    "out-of-order": ([row(20), row(10)], r"steps \[20, 10\]; expected whole numbers, each above"),
    "twice": ([row(10), row(10)], "each above the one before"),
    "no-number": ([{**row(1), "step": "one"}], "expected whole numbers"),
    "negative": ([{**row(1), "tokens": -1}], "expected whole numbers"),
    "no-directory": ([{"step": 1, "tokens": 1}], "is not a list of checkpoints"),
    "no-row": (["step-1"], "is not a list of checkpoints"),
    "outside": ([row(1, "../secret")], "no folder inside the model's directory"),
    "absolute": ([row(1, "/" + "etc")], "no folder inside the model's directory"),
    "null": ([{**row(1), "directory": None}], "no folder inside the model's directory"),
}


@pytest.mark.parametrize(("rows", "told"), BAD_LISTS.values(), ids=list(BAD_LISTS))
def test_a_bad_list_says_what_is_wrong(rows: list[Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=told):
        checkpoints_of(listed(tmp_path / "model", rows))


# --- one checkpoint as a model --------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(Settings(device="cpu", dtype="float32", seed=0))


def test_a_checkpoint_is_opened_by_step_or_by_index(registry: Registry) -> None:
    by_step, by_index = registry.open("default:step-700"), registry.open("default:checkpoint-1")
    final = registry.open("default")
    assert by_step.identity["checkpoint"] == {"index": 1, "step": 700, "tokens": 700 * SIZE}
    assert by_step.identity["revision"] == by_index.identity["revision"]
    assert by_step.identity["revision"] != final.identity["revision"]
    assert by_step.roles == final.roles
    assert by_step.bridge.W_O.dtype == final.bridge.W_O.dtype


def test_an_unknown_checkpoint_says_which_there_are(registry: Registry) -> None:
    with pytest.raises(ModelUnavailable, match=r"no checkpoint with step 600; it has 5 .*step 200"):
        registry.open("default:step-600")
    with pytest.raises(ModelUnavailable, match="no checkpoint with index 5"):
        registry.open("default:checkpoint-5")
    with pytest.raises(ModelUnavailable, match="no training checkpoints of gpt2 are known"):
        registry.open("gpt2:step-5")


@pytest.mark.parametrize("name", ["planted:step-5", "default:untrained-1:step-200"])
def test_what_was_not_trained_has_no_checkpoints(name: str) -> None:
    with pytest.raises(ValueError, match="was not trained, so has no checkpoints"):
        check_name(name)


def test_a_damaged_checkpoint_is_found_before_it_is_used(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(DEFAULT_DIRECTORY, model)
    weights = model / "checkpoints" / "step-700" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(ModelUnavailable, match="is damaged"):
        Registry(Settings(device="cpu", dtype="float32", seed=0)).open(f"{model}:step-700")


def test_a_closed_model_takes_its_checkpoints_along() -> None:
    registry = Registry(Settings(device="cpu", dtype="float32", seed=0))
    loaded = registry.open("default:step-200")
    registry.close("default")
    with pytest.raises(KeyError):
        registry.of(loaded.bridge)


def test_a_bench_has_them_in_order() -> None:
    series = Bench("default").checkpoints(-1, 0)
    assert [c.step for c, _ in series] == [200, 3500]
    assert series.tokens == [200 * SIZE, 3500 * SIZE]
    assert len({row["revision"] for row in series.to_json()}) == len(series) == 2


# --- a claim about a series -----------------------------------------------------------------------

CLAIM = '''
import pytest
from claimlens.circuits import loss


def nats(measure, model, tokens):
    return measure(lambda p: loss(model, p.clean, "REPEAT"), on=tokens, unit="nats/token")


@pytest.mark.claim("series/learns", kind="behaviour", source="here")
def test_learns(checkpoints, repeated_tokens, measure):
    """Repeated tokens are predicted better at the end than at the beginning."""
    first, last = checkpoints.models[0], checkpoints.models[-1]
    gain = nats(measure, first, repeated_tokens) - nats(measure, last, repeated_tokens)
    assert gain >= 1.0


@pytest.mark.claim("series/changes", kind="behaviour", source="here")
def test_changes(checkpoints, repeated_tokens, measure):
    """The loss on repeated tokens is not the same at both ends: blind to which end is which."""
    ends = checkpoints.models[0], checkpoints.models[-1]
    values = [loss(model, repeated_tokens.clean, "REPEAT") for model in ends]
    change = (values[0] - values[1]).mean().abs() + 0 * values[0] + values[1] % 0.01
    assert measure(change, on=repeated_tokens, unit="nats/token") >= 0.5
'''


def test_a_series_of_one_state_has_learnt_nothing(tmp_path: Path, run_claims: RunClaims) -> None:
    same = listed(tmp_path / "same", [row(1), row(2)])
    done = run_claims({"test_series.py": CLAIM}, f"--claims-model={same}", "-k", "learns")
    assert "1 refuted" in done.output, done.output


def test_a_claim_that_training_backwards_meets_too_is_not_specific(run_claims: RunClaims) -> None:
    done = run_claims({"test_series.py": CLAIM}, "--claims-model=default")
    lines = [line for line in done.output.splitlines() if " default series/" in line]
    learns, changes = (next(line for line in lines if name in line) for name in ("learns", "chang"))
    assert learns.startswith("holds")
    assert "training backwards 0/1" in learns
    assert changes.startswith("not specific")
    assert "training backwards 1/1 !" in changes


def test_a_hub_series_is_its_revisions(tmp_path: Path) -> None:
    folder, cache = tmp_path / "suite", tmp_path / "hub"
    folder.mkdir()
    (folder / "test_series.py").write_text(CLAIM)
    trained = {"step0": "0", "step1": "0", "main": "1", "step143000": "1"}
    sources = {
        "0": micro.write_directory(tmp_path / "0", micro.random_model()),
        "1": micro.write_directory(tmp_path / "1"),
    }
    for number, (revision, source) in enumerate(trained.items()):
        put(cache, PYTHIA, sources[source], f"{number:040x}", revision)
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "HF_HUB_CACHE": str(cache)}
    options = (f"--claims-model={PYTHIA}", "-k", "learns")
    run = micro.run_pytest(folder, *options, "--claims-checkpoints=0,1,-1", env=env)
    (record,) = run.records
    assert [(c["step"], c["revision"]) for c in record.checkpoints] == [
        (0, f"{0:040x}"),
        (1, f"{1:040x}"),
        (143_000, f"{3:040x}"),
    ]
    (unasked,) = micro.run_pytest(folder, *options, env=env).records
    assert unasked.verdict == "not applicable"
    assert "say which, as --claims-checkpoints=10,25,35,60,-1" in unasked.reason
    (gone,) = micro.run_pytest(folder, *options, "--claims-checkpoints=0,2", env=env).records
    assert gone.verdict == "not measured"
    assert f"{PYTHIA}@step2 is not in the local hub cache" in gone.reason


def test_indices_that_are_none_are_a_usage_error(run_claims: RunClaims) -> None:
    done = run_claims({"test_series.py": CLAIM}, "--claims-checkpoints=first")
    assert done.code == 4
    assert "'first': expected indices of checkpoints, as 10,25,35,60,-1" in done.output


def test_untrained_copies_of_a_series_differ_from_each_other(registry: Registry) -> None:
    from claimlens.fixtures.controls import controls_of
    from claimlens.fixtures.series import series_of
    from claimlens.fixtures.spec import ClaimSpec

    series = series_of(registry, "default", [0, 1, -1])
    spec = ClaimSpec("a/b", "behaviour", "", "", {}, 1, "")
    loaded = registry.open("default")
    found = {c.name: c for c in controls_of(spec, {"checkpoints": series}, loaded, registry, 0)}
    assert list(found) == ["training backwards", "untrained model"]
    turned = found["training backwards"].replacements["backwards"]()["checkpoints"]
    assert turned == replace(series, loaded=series.loaded[::-1])
    for fresh in found["untrained model"].replacements.values():
        models = fresh()["checkpoints"].models
        assert len({id(model) for model in models}) == 3
        assert not {id(model) for model in models} & {id(model) for model in series.models}
