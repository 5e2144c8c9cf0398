"""One micro model, its twin and a few prompts for all kernel tests.

Imports wait until a fixture is used: the shape checks must be in place before claimlens is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from claimlens.ci.selftests.twin import Twin
    from claimlens.circuits.parts import PromptPairs, Prompts
    from claimlens.fixtures.bench import Bench


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """These matrices are tiny: more threads only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model() -> Any:
    """A bridge in float64; shared, so don't change it."""
    from claimlens.ci.selftests import micro

    return micro.bridge("float64")


@pytest.fixture(scope="session")
def twin() -> Twin:
    """The same model, written from its definition."""
    from claimlens.ci.selftests import micro
    from claimlens.ci.selftests.twin import Twin

    return Twin(micro.random_model())


@pytest.fixture(scope="session")
def pairs() -> PromptPairs:
    """IOI prompts of several lengths: most rows are padded."""
    import torch

    from claimlens.ci.selftests import micro
    from claimlens.fixtures.prompts.ioi import ioi_prompts
    from claimlens.fixtures.tokens import Vocabulary

    found = ioi_prompts(Vocabulary(micro.tokenizer()), 12, 0, torch.device("cpu"))
    assert len(set(found.clean.lengths.tolist())) > 1
    return found


@pytest.fixture(scope="session")
def clean(pairs: PromptPairs) -> Prompts:
    """The clean side."""
    return pairs.clean


@pytest.fixture(scope="session")
def corrupted(pairs: PromptPairs) -> Prompts:
    """The ABC side."""
    assert pairs.corrupted is not None
    return pairs.corrupted


@pytest.fixture(scope="session")
def swapped() -> PromptPairs:
    """IOI prompts of several lengths, corrupted at S2 alone."""
    import torch

    from claimlens.ci.selftests import micro
    from claimlens.fixtures.prompts.ioi import ioi_prompts
    from claimlens.fixtures.tokens import Vocabulary

    cpu = torch.device("cpu")
    return ioi_prompts(Vocabulary(micro.tokenizer()), 6, 0, cpu, swapped=True)


@pytest.fixture(scope="session")
def repeated() -> Prompts:
    """Random tokens, twice: labels of many positions."""
    import torch

    from claimlens.ci.selftests import micro
    from claimlens.fixtures.prompts.repeated import repeated_prompts
    from claimlens.fixtures.tokens import Vocabulary

    cpu = torch.device("cpu")
    return repeated_prompts(Vocabulary(micro.tokenizer()), 4, 0, cpu, micro.CONTEXT).clean


@pytest.fixture(scope="session")
def names() -> Prompts:
    """BOS and a name, one to a prompt."""
    import torch

    from claimlens.ci.selftests import micro
    from claimlens.fixtures.prompts.names import name_prompts
    from claimlens.fixtures.tokens import Vocabulary

    return name_prompts(Vocabulary(micro.tokenizer()), torch.device("cpu")).clean


@pytest.fixture(scope="session")
def planted() -> Bench:
    """The model whose circuit is known."""
    from claimlens.fixtures.bench import Bench

    return Bench("planted")
