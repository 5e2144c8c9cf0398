"""One thread and a few intact runs for all engine tests.

Imports wait until a fixture is used: the shape checks must be in place before claimlens is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from claimlens.circuits.engine.run import Run
    from claimlens.circuits.parts import Prompts


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """These matrices are tiny: more threads only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", params=["GPT2", "Llama", "GPTNeoX"])
def model(request: pytest.FixtureRequest) -> Any:
    """A bridge of each family in float64; shared, so don't change it."""
    from claimlens.ci.selftests import architectures

    return architectures.bridge(request.param)


@pytest.fixture(scope="session")
def prompts() -> Prompts:
    """Five prompts of several lengths."""
    from claimlens.ci.selftests.engine.samples import five_prompts

    return five_prompts(0)


@pytest.fixture(scope="session")
def others() -> Prompts:
    """Other tokens of the same lengths."""
    from claimlens.ci.selftests.engine.samples import five_prompts

    return five_prompts(1)


@pytest.fixture(scope="session")
def run(model: Any, prompts: Prompts) -> Run:
    """The engine's intact run."""
    from claimlens.circuits.engine.run import intact_run

    return intact_run(model, prompts)


@pytest.fixture(scope="session")
def source(model: Any, others: Prompts) -> Run:
    """The engine's run of the other tokens."""
    from claimlens.circuits.engine.run import intact_run

    return intact_run(model, others)
