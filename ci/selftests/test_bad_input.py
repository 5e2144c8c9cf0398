"""Bad models, bad files, bad options: one clear message each, and the good model is still measured.

All bad models are given in one command, before a good one; each must leave its claims "not
measured" (or "not applicable") with a reason that says what was given and how to mend it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.micro import Run
from claimlens.fixtures.default.words import VOCABULARY
from claimlens.fixtures.directories import write_checksums

CLAIMS = '''
import pytest

from claimlens.circuits import attribute, logit_diff


@pytest.mark.claim("bad/behaviour", kind="behaviour", source="here")
def test_behaviour(model, ioi, measure):
    """A claim made for a test."""
    assert measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits") >= 9


@pytest.mark.claim("bad/head", kind="mechanism", source="here")
@pytest.mark.role("ioi/name_mover")
def test_head(model, ioi, head, measure):
    """A claim made for a test."""
    assert measure(lambda p: attribute(model, p.clean, head, "answer"), on=ioi, unit="logits") >= 9
'''

WEIGHTS = "model.safetensors"


def edit_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_listed_data(directory: Path) -> None:
    write_checksums(directory)
    flip(directory / WEIGHTS, -100)


def lose_listed_file(directory: Path) -> None:
    write_checksums(directory)
    (directory / "tokenizer.json").unlink()


def pickle_as(name: str) -> Callable[[Path], None]:
    def save(directory: Path) -> None:
        (directory / WEIGHTS).unlink()
        torch.save({}, directory / name)

    return save


def change_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def save(directory: Path) -> None:
        weights = load_file(directory / WEIGHTS)
        change(weights)
        save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})

    return save


def custom_code(directory: Path) -> None:
    """A model type that only the directory's own Python knows; running it leaves a file behind."""
    edit_json(
        directory / "config.json",
        model_type="custom",
        auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"},
    )
    (directory / "own.py").write_text("open('PWNED', 'w').write('')\n")


LN = "transformer.h.0.ln_1.weight"


@dataclass(frozen=True)
class Bad:
    """How a good directory is made bad, and what must be said of it."""

    spoil: Callable[[Path], object]
    told: str
    verdict: str = "not measured"


BAD = {
    "missing": Bad(shutil.rmtree, "no model directory at missing: expected a Hugging Face"),
    "no-weights": Bad(lambda d: (d / WEIGHTS).unlink(), "has no *.safetensors file"),
    "no-config": Bad(
        lambda d: (d / "config.json").unlink(), "has no config.json: expected a whole"
    ),
    "no-tokenizer": Bad(
        lambda d: (d / "tokenizer_config.json").unlink(), "has no tokenizer_config.json"
    ),
    "truncated": Bad(lambda d: cut(d / WEIGHTS), "cannot be read as safetensors"),
    "emptied": Bad(lambda d: (d / WEIGHTS).write_bytes(b""), "cannot be read as safetensors"),
    "header-flipped": Bad(lambda d: flip(d / WEIGHTS, 1), "cannot be read as safetensors"),
    "data-flipped": Bad(flip_listed_data, "is damaged: its SHA-256 differs from the one in"),
    "listed-file-lost": Bad(lose_listed_file, "lacks tokenizer.json, which its SHA256SUMS lists"),
    "pickle-bin": Bad(pickle_as("pytorch_model.bin"), "as pickles (pytorch_model.bin), which can"),
    "pickle-pt": Bad(pickle_as("model.pt"), "convert them with save_pretrained to safetensors"),
    "nan": Bad(
        change_weights(lambda w: w[LN].fill_(torch.nan)), f"the weights '{LN}' are not finite"
    ),
    "tensor-lost": Bad(
        change_weights(lambda w: w.pop(LN)), "the file lacks weights that the config asks for"
    ),
    "tensor-extra": Bad(
        change_weights(lambda w: w.update(extra=torch.ones(2))),
        "the file has weights that the config does not know",
    ),
    "more-layers": Bad(
        lambda d: edit_json(d / "config.json", n_layer=5),
        "the file lacks weights that the config asks for",
    ),
    "other-width": Bad(
        lambda d: edit_json(d / "config.json", n_embd=64),
        "weights have other shapes than the config says",
    ),
    "heads-do-not-divide": Bad(
        lambda d: edit_json(d / "config.json", n_head=5), "cannot be loaded"
    ),
    "unknown-architecture": Bad(
        lambda d: edit_json(d / "config.json", model_type="nonsense"), "cannot be loaded"
    ),
    "custom-code": Bad(custom_code, "cannot be loaded"),
    "config-cut": Bad(lambda d: cut(d / "config.json"), "is not valid JSON"),
    "config-no-object": Bad(lambda d: (d / "config.json").write_text("[1]"), "config.json"),
    "tokenizer-cut": Bad(lambda d: cut(d / "tokenizer.json"), "tokenizer"),
    "tokenizer-too-large": Bad(
        lambda d: micro.tokenizer([*VOCABULARY, "1", "2", "3"]).save_pretrained(d),
        "they belong to different models",
    ),
    "no-names": Bad(
        lambda d: micro.tokenizer(["<|endoftext|>", "a", "cat"]).save_pretrained(d),
        "the tokenizer knows 0 of",
        "not applicable",
    ),
    "no-a": Bad(
        lambda d: micro.tokenizer(["<|endoftext|>", "the", "cat"]).save_pretrained(d),
        "the tokenizer cannot encode 'a'",
    ),
    "roles-cut": Bad(lambda d: cut(d / "roles.json"), "roles.json is not valid JSON"),
    "roles-of-another-form": Bad(
        lambda d: (d / "roles.json").write_text('{"ioi/name_mover": ["0.0"]}'),
        "roles.json is not a role file",
    ),
    "roles-no-heads": Bad(
        lambda d: (d / "roles.json").write_text('{"roles": {"ioi/name_mover": ["nine"]}}'),
        "not a head: 'nine'",
    ),
    "roles-one-string": Bad(
        lambda d: (d / "roles.json").write_text('{"roles": {"ioi/name_mover": "9.9"}}'),
        "roles.json is not a role file",
    ),
    "roles-unknown": Bad(
        lambda d: (d / "roles.json").write_text('{"roles": {"ioi/name_mvoer": ["0.0"]}}'),
        "names the role 'ioi/name_mvoer', of which no claim speaks; known: ioi/name_mover",
    ),
}
ABSENT = "org/absent@" + 40 * "0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad_input") / "suite"
    good = micro.write_directory(folder / "good")
    for name, bad in BAD.items():
        bad.spoil(Path(shutil.copytree(good, folder / name)))
    lacking = Path(shutil.copytree(good, folder / "lacking-head"))
    (lacking / "roles.json").write_text('{"roles": {"ioi/name_mover": ["9.9", "0.0"]}}')
    (folder / "test_bad.py").write_text(CLAIMS)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    names = [*(f"./{name}" for name in BAD), ABSENT, "./lacking-head", "./good"]
    options = [f"--claims-model={name}" for name in names]
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home")}
    return micro.run_pytest(folder, *options, env=env)


@pytest.mark.parametrize("name", BAD)
def test_every_claim_on_a_bad_model_says_why(run: Run, name: str) -> None:
    records = [record for record in run.records if record.model["name"] == f"./{name}"]
    assert {record.claim for record in records} == {"bad/behaviour", "bad/head"}, run.output
    for record in records:
        assert record.verdict == BAD[name].verdict
        assert BAD[name].told in record.reason
        assert "\n" not in record.reason
        assert len(record.reason) < 400, record.reason


def test_a_hub_model_that_is_not_there_offline_is_one_line(run: Run) -> None:
    records = [record for record in run.records if record.model["name"] == ABSENT]
    assert records
    for record in records:
        assert record.verdict == "not measured"
        assert (
            f"{ABSENT} is not in the local hub cache and could not be downloaded" in record.reason
        )
        assert "check the name and the network" in record.reason


def test_a_head_the_model_lacks_is_not_applicable_and_the_others_are_measured(run: Run) -> None:
    words = {record.head: record for record in run.of("bad/head", "./lacking-head")}
    assert words["L9H9"].verdict == "not applicable"
    assert "no head L9H9: it has 3 layers of 2 heads" in words["L9H9"].reason
    assert words["L0H0"].verdict == "refuted"


def test_the_good_model_is_measured_and_stored(run: Run) -> None:
    found = [record for record in run.records if record.model["name"] == "./good"]
    assert len(found) == 3
    assert {record.verdict for record in found} == {"refuted"}
    assert all(record.comparisons for record in found)
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", r.model["revision"]) for r in found)


def test_the_run_fails_without_a_traceback(run: Run, folder: Path) -> None:
    assert run.code == pytest.ExitCode.TESTS_FAILED
    assert "Traceback" not in run.output
    assert "INTERNALERROR" not in run.output
    assert not re.search(r"\.py:\d+: ", run.output)


def test_no_code_of_a_model_directory_ran(run: Run, folder: Path) -> None:
    assert run.records
    assert not list(folder.parent.rglob("PWNED"))


def test_a_fault_nobody_foresaw_leaves_a_record_and_its_traceback(tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "test_bad.py").write_text(CLAIMS)
    (folder / "conftest.py").write_text(
        "import pytest\n\n\n@pytest.fixture\ndef ioi():\n    raise MemoryError('too much')\n"
    )
    micro.write_directory(folder / "good")
    run = micro.run_pytest(folder, "--claims-model=./good", "-k", "behaviour")
    (record,) = run.records
    assert (record.verdict, record.reason) == ("not measured", "MemoryError: too much")
    assert re.search(r"conftest\.py:\d+: ", run.output)
    assert run.code == pytest.ExitCode.TESTS_FAILED
