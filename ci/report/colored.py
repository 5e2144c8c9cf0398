"""The tokens of the prompts that a page shows, coloured by what each of them weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from claimlens.ci.figures.token_map import Cell, cell_of
from claimlens.circuits.record import TokenScores


@dataclass(frozen=True)
class Colored:
    """By prompt, its tokens; `told` says what their colours are, or why they have none."""

    told: str = ""
    prompts: Mapping[str, Sequence[Cell]] = field(default_factory=dict)

    @classmethod
    def of(cls, scores: TokenScores | None) -> Colored:
        """Nothing where the claim has no such scores."""
        if scores is None:
            return cls()
        if not scores.tokens:
            return cls(f"Tokens are not coloured: {scores.what}.")
        told = (
            f"Colour of a token: {scores.what} [{scores.unit}], each prompt on a scale of its own."
        )
        return cls(told, {id: _cells(scores, id) for id in scores.tokens})


def _cells(scores: TokenScores, id: str) -> list[Cell]:
    """The tokens of a prompt; without colour where nothing weighs anything.

    Their unit stands above: thousands of tokens need not say it.
    """
    row = scores.scores[id]
    largest = max(map(abs, row), default=0.0) or 1.0
    pairs = zip(scores.tokens[id], row, strict=True)
    return [cell_of(token, score, largest, "") for token, score in pairs]
