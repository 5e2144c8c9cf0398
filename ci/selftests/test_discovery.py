"""Roles that nobody named are found again, on the planted model where they are known."""

from pathlib import Path

import pytest

from claimlens.circuits.parts import Head
from claimlens.circuits.verdict import NotApplicable
from claimlens.fixtures import planted
from claimlens.fixtures.loading import Settings
from claimlens.fixtures.models import LoadedModel, Registry
from claimlens.fixtures.roles import Found, known_roles


def saved(name: str, directory: Path) -> Path:
    model, tokenizer = planted.build(name)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def opened(directory: Path) -> LoadedModel:
    return Registry(Settings(device="cpu", dtype="float32", seed=0)).open(str(directory))


@pytest.fixture(scope="module")
def nameless(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """The planted model as a directory without roles.json."""
    return opened(saved("planted", tmp_path_factory.mktemp("nameless")))


@pytest.mark.parametrize("role", planted.ROLES)
def test_the_planted_head_of_each_role_is_found(nameless: LoadedModel, role: str) -> None:
    (found,) = nameless.roles[role]
    assert found in [Head.parse(head) for head in planted.ROLES[role]]


def test_results_say_that_the_roles_were_discovered(nameless: LoadedModel) -> None:
    assert nameless.roles.source == "discovered on held-out prompts"


def test_a_silenced_mover_is_not_found_again(tmp_path: Path) -> None:
    loaded = opened(saved("planted:no-name-mover", tmp_path))
    movers = [Head.parse(head) for head in planted.ROLES["ioi/name_mover"]]
    assert not set(loaded.roles["ioi/name_mover"]) & set(movers)


def test_named_roles_are_not_searched_for(tmp_path: Path) -> None:
    directory = saved("planted", tmp_path)
    (directory / "roles.json").write_text('{"schema": 1, "roles": {"ioi/name_mover": ["2.1"]}}')
    assert opened(directory).roles.heads == {"ioi/name_mover": (Head(2, 1),)}
    assert known_roles(str(directory)).source == "fitted"


def test_as_many_candidates_again_are_tried_one_by_one(nameless: LoadedModel) -> None:
    """Those who play the role are as many as are known; the next best are tried beside them."""
    registry = Registry(Settings(device="cpu", dtype="float32", seed=0))
    plain, more = (registry.open(f"planted:{kind}") for kind in ("discovered", "candidates"))
    role = "ioi/name_mover"
    known = len(known_roles("planted")[role])
    assert plain.roles[role] == more.roles[role]
    assert len(more.roles[role]) == known
    assert plain.roles.spare[role] == ()
    tried = [Found(i).among(more.roles, role) for i in range(known_roles(more.name).tried[role])]
    assert len(set(tried)) == len(tried) == 2 * known
    with pytest.raises(NotApplicable, match=f"only {known} heads were found"):
        Found(known).among(plain.roles, role)
