"""The embedded model's making: what it never sees, and that interruption changes nothing."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random

import pytest
import torch

from claimlens.fixtures.checkpoints import checkpoints_of
from claimlens.fixtures.default import corpus, network, snapshots, train
from claimlens.fixtures.default.words import HELD_OUT_NAMES, VOCABULARY
from claimlens.fixtures.directories import check_checksums, check_directory
from claimlens.fixtures.names import DEFAULT_DIRECTORY
from claimlens.fixtures.prompts.ioi import ACTIONS, OPENERS, SCENES

IOI_WRITERS = [w for w in {**corpus.EARLY, **corpus.LATE} if "person" in w.__name__]
IOI_WRITERS += [w for w in corpus.LATE if w.__name__ in ("indirect_object", "redirection")]


def texts(count: int) -> list[str]:
    """IOI documents of every kind, `count` of each."""
    return [
        writer(Random(f"{writer.__name__}/{i}")).text
        for writer in IOI_WRITERS
        for i in range(count)
    ]


def said(template: str) -> str:
    """The words of a scene or action between its slots: what would give it away in a text."""
    return max(template.replace("}", "{").split("{"), key=len).strip()


def test_no_evaluation_scene_and_action_stand_together_in_training() -> None:
    seen = texts(400)
    for scene, action in product(SCENES, ACTIONS):
        both = [text for text in seen if said(scene) in text and said(action) in text]
        assert not both, f"{scene!r} and {action!r} in {both[0]!r}"


def test_the_search_for_templates_finds_one_that_is_there() -> None:
    text = "When Mary and John had lunch at the store, John decided to give a cup to Mary."
    assert said(SCENES[2]) in text
    assert said(ACTIONS[3]) in text


def test_the_held_out_names_are_in_no_ioi_document() -> None:
    words = {
        word for text in texts(400) for word in text.replace(".", " ").replace(",", " ").split()
    }
    assert len(words) > 100
    assert words & set(HELD_OUT_NAMES) == set()


def test_the_vocabulary_reads_every_evaluation_template() -> None:
    slots = {"a": "Mary", "b": "John", "s": "John", "place": "store", "thing": "cup"}
    for opener, scene, action in product(OPENERS, SCENES, ACTIONS):
        corpus.encode(f"{opener} {scene}, {action}".format(**slots))


def test_a_word_outside_the_vocabulary_is_an_error() -> None:
    with pytest.raises(ValueError, match="zebra"):
        corpus.encode("Mary saw a zebra")


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    first, again, other = (train.batch(seed, 7)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert int(first.max()) < len(VOCABULARY)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Eight steps with the graft after five, saved every two; torch's settings restored."""
    for name, value in {"STEPS": 8, "GRAFT_AT": 5, "SAVE_EVERY": 2, "BATCH": 4}.items():
        monkeypatch.setattr(train, name, value)
    monkeypatch.setattr(snapshots, "STEPS", (1, 4))
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(mode)


def kept(folder: Path) -> dict[str, bytes]:
    """The weights of every checkpoint that training left."""
    return {file.parent.name: file.read_bytes() for file in folder.glob("*/*/model.safetensors")}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("cut", [3, 6])
def test_training_goes_on_where_it_was_interrupted(
    cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "whole", tmp_path / "cut"
    one.mkdir()
    two.mkdir()
    whole = train.train(0, one).state_dict()
    step = train._step

    def interrupted(model: object, optimizer: object, seed: int, number: int) -> float:
        if number == cut:
            raise KeyboardInterrupt
        return step(model, optimizer, seed, number)  # type: ignore[arg-type]  # handed on as given

    monkeypatch.setattr(train, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.train(0, two)
    monkeypatch.setattr(train, "_step", step)
    resumed = train.train(0, two).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    fresh = network.new_model(0).state_dict()
    assert any(not torch.equal(whole[name], fresh[name]) for name in whole)
    assert kept(one) == kept(two)


@pytest.mark.usefixtures("short")
def test_training_leaves_its_checkpoints_with_their_labels(tmp_path: Path) -> None:
    final = train.train(0, tmp_path)
    final.save_pretrained(tmp_path)
    snapshots.write_listing(tmp_path, train.STEPS, train.BATCH)
    found = checkpoints_of(str(tmp_path))
    size = 4 * network.CONTEXT
    assert [(c.step, c.tokens) for c in found] == [(1, size), (4, 4 * size), (8, 8 * size)]
    weights = kept(tmp_path)
    assert [f"checkpoints/{name}" for name in sorted(weights)] == [c.place for c in found[:-1]]
    assert len(set(weights.values())) == 2
    for checkpoint in found[:-1]:
        check_directory(tmp_path / checkpoint.place)


@pytest.mark.usefixtures("short")
def test_what_another_seed_left_is_refused(tmp_path: Path) -> None:
    train.train(0, tmp_path)
    with pytest.raises(ValueError, match="seed 0, not 1"):
        train.train(1, tmp_path)


def test_the_shipped_model_is_whole_and_small() -> None:
    check_directory(DEFAULT_DIRECTORY)
    check_checksums(DEFAULT_DIRECTORY)
    assert (DEFAULT_DIRECTORY / "SHA256SUMS").is_file()
    weights = sum(file.stat().st_size for file in DEFAULT_DIRECTORY.rglob("*.safetensors"))
    assert weights <= 8 * 2**20
