"""Wrong options, words no model knows, and a store that cannot be written: said in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claimlens.ci.selftests import micro
from claimlens.circuits.verdict import NotApplicable, NotMeasured
from claimlens.fixtures.default.words import VOCABULARY
from claimlens.fixtures.tokens import Vocabulary

CLAIM = '''
import pytest


@pytest.mark.claim("options/x", kind="behaviour", source="here")
def test_behaviour(model, ioi, measure):
    """A claim made for a test."""
'''


def claims_in(tmp_path: Path) -> Path:
    """A folder with one claim."""
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "test_x.py").write_text(CLAIM)
    return folder


USAGE = {
    "unknown-option": (["--claims-modle=default"], "unrecognized arguments: --claims-modle"),
    "wrong-dtype": (["--claims-dtype=float8"], "invalid choice: 'float8' (choose from"),
    "wrong-seed": (["--claims-seed=one"], "--claims-seed: invalid int value: 'one'"),
    "impossible-name": (
        ["--claims-model=no such model"],
        "--claims-model: not a model name: 'no such model'; expected default, planted, a directory",
    ),
    "misspelt-default": (
        ["--claims-model=defualt"],
        "--claims-model: no model 'defualt'; did you mean 'default'?",
    ),
    "path-in-a-hub-name": (["--claims-model=org/../secret"], "not a model name: 'org/../secret'"),
    "unknown-mutant": (["--claims-model=planted:no-nothing"], "--claims-model: "),
    "unknown-device": (["--claims-device=gpu"], "no such device: 'gpu'; expected cpu, cuda"),
    "gate-of-itself": (
        ["--claims-gate=enforce", "--claims-baseline=update", "--claims-reason=x"],
        "--claims-gate would compare this run with the baseline that --claims-baseline makes of it",
    ),
    "absent-device": (["--claims-device=cuda:99"], "this machine has no 'cuda:99': it offers"),
}


@pytest.mark.parametrize("name", USAGE)
def test_a_wrong_option_is_refused_before_anything_runs(tmp_path: Path, name: str) -> None:
    options, told = USAGE[name]
    folder = claims_in(tmp_path)
    refused = micro.run_pytest(folder, *options, store=folder / "never")
    assert refused.code == pytest.ExitCode.USAGE_ERROR, refused.output
    errors = [line for line in refused.output.splitlines() if line.startswith("ERROR")]
    assert told in refused.output
    assert errors or "usage:" in refused.output
    assert "Traceback" not in refused.output
    assert not (folder / "never").exists()


@pytest.mark.parametrize("kind", ["file", "read-only"])
def test_a_store_that_cannot_be_written_is_said_and_is_no_success(
    tmp_path: Path, kind: str
) -> None:
    store = tmp_path / "store"
    if kind == "file":
        store.write_text("not a folder")
    else:
        store.mkdir(mode=0o500)
        if os.access(store, os.W_OK):
            pytest.skip("this user may write everywhere")
    run = micro.run_pytest(
        claims_in(tmp_path), "--claims-model=./missing", "-k", "behaviour", store=store
    )
    assert run.code == pytest.ExitCode.TESTS_FAILED
    (line,) = [x for x in run.output.splitlines() if x.startswith("results could not be stored")]
    assert str(store) in line
    assert "give a folder that can be written with --claims-store" in line
    assert "Traceback" not in run.output


def test_a_word_outside_the_vocabulary_is_an_error_and_never_a_guess() -> None:
    vocabulary = Vocabulary(micro.tokenizer())
    assert vocabulary.encode("the dog") == [
        VOCABULARY.index("the"),
        VOCABULARY.index("dog"),
    ]
    with pytest.raises(NotMeasured, match="'zyzzyva' in 'the zyzzyva' is not in the model's"):
        vocabulary.encode("the zyzzyva")


def test_a_tokenizer_without_a_first_token_is_not_applicable() -> None:
    bare = micro.tokenizer()
    bare.bos_token = bare.eos_token = None
    with pytest.raises(NotApplicable, match="neither a BOS nor an EOS"):
        _ = Vocabulary(bare).bos
