"""Training checkpoints of published model families: after which steps, under which revisions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """The states of a family's training that are published, as revisions of each model."""

    owner: str
    revision: str
    steps: tuple[int, ...]
    tokens_per_step: int
    source: str


_PYTHIA = Schedule(
    owner="EleutherAI/pythia-",
    revision="step{step}",
    steps=(0, *(2**n for n in range(10)), *range(1000, 143_001, 1000)),
    tokens_per_step=2**21,
    source="Biderman et al. 2023, section 2: 154 checkpoints, 1,024 rows of 2,048 tokens a step",
)
_PYTHIA_V0 = Schedule(
    owner="EleutherAI/pythia-",
    revision="step{step}",
    steps=tuple(range(1000, 143_001, 1000)),
    tokens_per_step=2**21,
    source="the first release of Biderman et al. 2023, names ending in -v0: a step in a thousand",
)
_STANFORD = Schedule(
    owner="stanford-crfm/",
    revision="checkpoint-{step}",
    steps=(
        *range(0, 100, 10),
        *range(100, 2000, 50),
        *range(2000, 20_000, 100),
        *range(20_000, 400_001, 1000),
    ),
    tokens_per_step=2**19,
    source="Mistral, Stanford CRFM 2021: 609 checkpoints, 512 rows of 1,024 tokens a step",
)


def schedule_of(repository: str) -> Schedule | None:
    """The published checkpoints of a hub repository, if its family has any."""
    if repository.startswith(_PYTHIA.owner):
        return _PYTHIA_V0 if repository.endswith("-v0") else _PYTHIA
    return _STANFORD if repository.startswith(_STANFORD.owner) else None
