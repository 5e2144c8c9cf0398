"""What the kernel tests share: heads, tolerances, and how to compare with the twin.

TransformerLens folds and centres weights in float32 whatever the dtype is, so against the twin even
float64 agrees only to 1e-5 logits; two runs of one bridge agree to 1e-12. Logits are of order 10.
"""

from __future__ import annotations

import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.twin import Place, Trace, Twin
from claimlens.circuits.metrics import answer_tokens
from claimlens.circuits.parts import Head, PromptPairs, Prompts

HEADS = [Head(layer, index) for layer in range(micro.LAYERS) for index in range(micro.HEADS)]
SOME = Head(1, 1)
TOLERANCES = [("float64", 1e-5), ("float32", 1e-4)]
FOLDED, ROUNDING = 1e-5, 1e-12


def rows(prompts: Prompts) -> list[Tensor]:
    """The prompts' tokens, each without its padding."""
    return [row[:n] for row, n in zip(prompts.tokens, prompts.lengths.tolist(), strict=True)]


def sides(pairs: PromptPairs) -> tuple[Prompts, Prompts]:
    """Clean and corrupted."""
    assert pairs.corrupted is not None
    return pairs.clean, pairs.corrupted


def traces(twin: Twin, prompts: Prompts) -> list[Trace]:
    return [twin.run(tokens) for tokens in rows(prompts)]


def index_of(prompts: Prompts, label: str) -> list[list[int]]:
    found: list[list[int]] = prompts.at(label).tolist()
    return found


def diff(trace: Trace, prompts: Prompts, row: int) -> Tensor:
    answers, wrongs = answer_tokens(prompts)
    return trace.logits[-1, answers[row]] - trace.logits[-1, wrongs[row]]


def at(head: Head) -> Place:
    return head.layer, head.index


def agree(found: Tensor, expected: list[Tensor] | Tensor, tolerance: float = FOLDED) -> None:
    wanted = torch.stack(expected) if isinstance(expected, list) else expected
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=tolerance)


def answers_of(prompts: Prompts) -> Tensor:
    """Token ids of the answers."""
    return answer_tokens(prompts)[0]
