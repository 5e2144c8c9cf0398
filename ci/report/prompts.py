"""The values of single prompts: the weakest, the strongest, and how all are spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from claimlens.ci.run_files import StoredRun
from claimlens.circuits.figures import Histogram
from claimlens.circuits.record import SHOWN, ComparisonRecord

FEWEST = 8
"""Values that make a distribution, at least."""


@dataclass(frozen=True)
class Prompt:
    """One prompt and what it gave."""

    id: str
    text: str
    value: float


@dataclass(frozen=True)
class Spread:
    """The values of a comparison, and the prompts that they belong to, weakest first."""

    prompts: Sequence[Prompt]
    unit: str

    @classmethod
    def of(cls, comparison: ComparisonRecord, run: StoredRun) -> Spread | None:
        """None where the run holds no values, or none for these prompts."""
        prompts = run.prompts.get(comparison.prompts)
        if prompts is None or not comparison.values:
            return None
        values = comparison.by_prompt
        if len(values) != len(prompts.ids):
            return None
        order = comparison.weakest_first
        found = [Prompt(prompts.ids[i], prompts.texts[i], float(values[i])) for i in order]
        return cls(found, comparison.unit)

    @property
    def weakest(self) -> Sequence[Prompt]:
        """Those that speak most against the claim."""
        return self.prompts[:SHOWN]

    @property
    def strongest(self) -> Sequence[Prompt]:
        """Those that speak most for it, of the rest."""
        return self.prompts[SHOWN:][-SHOWN:][::-1]

    @property
    def histogram(self) -> Histogram | None:
        """How the values are spread; None for a few, or where all are the same."""
        values = [prompt.value for prompt in self.prompts]
        if len(values) < FEWEST or min(values) == max(values):
            return None
        return Histogram("Over prompts", self.unit, values)
