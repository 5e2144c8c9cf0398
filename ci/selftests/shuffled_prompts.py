"""A pytest plugin: every prompt set a claim sees is shuffled, as a user's own fixture could be."""

import pytest

from claimlens.circuits.parts import PromptPairs


@pytest.fixture(scope="session")
def ioi(ioi: PromptPairs) -> PromptPairs:
    """The IOI prompts, with labels and answers that mean nothing."""
    return ioi.shuffled(11)


@pytest.fixture(scope="session")
def repeated_tokens(repeated_tokens: PromptPairs) -> PromptPairs:
    """The repeated tokens, with labels that mean nothing."""
    return repeated_tokens.shuffled(11)
