"""One head's output, query, key, value or pattern patched: against transformer_lens.patching.

Its functions put a clean activation into the corrupted run, head by head, over all positions or one
at a time. Outputs are ours by `resample_ablate` and `knockout`; the others by an edit of one head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests.kernels.samples import FOLDED, HEADS, agree, sides
from claimlens.circuits.kernels.ablate import resample_ablate
from claimlens.circuits.kernels.cache import Edit, Edited, cache, edited
from claimlens.circuits.kernels.knockout import Node, knockout
from claimlens.circuits.kernels.patch import first_difference
from claimlens.circuits.metrics import answer_tokens, logit_diff
from claimlens.circuits.parts import Head, PromptPairs, Prompts

Pair = tuple[Prompts, Prompts]


@pytest.fixture(scope="module")
def pair(swapped: PromptPairs) -> Pair:
    """Prompts of one length without padding, and a label for every position."""
    lengths = swapped.clean.lengths
    chosen = swapped.select([i for i, n in enumerate(lengths) if n == lengths[0]])
    width = int(lengths[0])
    places = {f"P{i}": torch.full((len(chosen), 1), i) for i in range(width)}
    clean, corrupted = (
        replace(p, tokens=p.tokens[:, :width], positions={**p.positions, **places})
        for p in sides(chosen)
    )
    return clean, corrupted


def theirs(name: str, model: Any, pair: Pair) -> Tensor:
    """The patched logit difference by layer, (position,) head and prompt."""
    from transformer_lens import patching

    clean, corrupted = pair
    (answer, wrong), each = answer_tokens(clean), torch.arange(len(clean))

    def metric(logits: Tensor) -> Tensor:
        return logits[each, -1, answer] - logits[each, -1, wrong]

    _, kept = model.run_with_cache(clean.tokens)
    function = getattr(patching, f"get_act_patch_attn_head_{name}")
    values: Tensor = function(model, corrupted.tokens, kept, metric, reduce="none").values
    return values.double()


def one_head(
    model: Any, clean: Prompts, hook: str, head: Head, axis: int, column: int | None = None
) -> Edited:
    """The model with one head's part of an activation as in the clean run."""
    name = f"blocks.{head.layer}.attn.{hook}"
    source = cache(model, clean, [name])[name]

    def swap(old: Tensor) -> Tensor:
        new = old.clone()
        mine, given = new.select(axis, head.index), source.select(axis, head.index)
        where = slice(None) if column is None else slice(column, column + 1)
        mine[:, where] = given[:, where]
        return new

    return edited(model, Edit(name, swap, f"the clean {hook} of {head}", noop=True))


Ours = Callable[[Any, Pair, Head], Edited]
ALL_POS: dict[str, list[Ours]] = {
    "out_all_pos": [
        lambda model, pair, head: resample_ablate(model, head, pair[0]),
        lambda model, pair, head: knockout(model, pair[1], [head], "resample", pair[0]),
    ],
    "q_all_pos": [lambda model, pair, head: one_head(model, pair[0], "hook_q", head, 2)],
    "k_all_pos": [lambda model, pair, head: one_head(model, pair[0], "hook_k", head, 2)],
    "v_all_pos": [lambda model, pair, head: one_head(model, pair[0], "hook_v", head, 2)],
    "pattern_all_pos": [
        lambda model, pair, head: one_head(model, pair[0], "hook_pattern", head, 1)
    ],
}


@pytest.mark.parametrize("name", ALL_POS)
def test_one_head_at_all_positions(name: str, model: Any, pair: Pair) -> None:
    expected = theirs(name, model, pair)
    for head in HEADS:
        for ours in ALL_POS[name]:
            found = logit_diff(ours(model, pair, head), pair[1])
            agree(found, expected[head.layer, head.index], FOLDED)
    assert float((expected - logit_diff(model, pair[1])).abs().max()) > 1e-3


def test_one_heads_output_at_one_position(model: Any, pair: Pair) -> None:
    clean, corrupted = pair
    expected = theirs("out_by_pos", model, pair)
    before, first = logit_diff(model, corrupted), int(first_difference(clean, corrupted).min())
    assert 0 < first < clean.tokens.shape[1] - 1
    for head in HEADS:
        for column in range(clean.tokens.shape[1]):
            node = Node(head, f"P{column}")
            found = before  # where both runs are equal, a knock-out would refuse to do nothing
            if column >= first:
                without = knockout(model, corrupted, [node], "resample", clean)
                found = logit_diff(without, corrupted)
            agree(found, expected[head.layer, column, head.index], FOLDED)


@pytest.mark.parametrize("part", ["q", "k", "v", "pattern"])
def test_one_heads_parts_at_one_position(part: str, model: Any, pair: Pair) -> None:
    """Of a pattern, the row of one destination."""
    clean, corrupted = pair
    expected = theirs(f"{part}_by_pos", model, pair)
    axis = 1 if part == "pattern" else 2
    expected = expected.transpose(1, 2) if part == "pattern" else expected  # head, then position
    last = clean.tokens.shape[1] - 1
    for head in HEADS:
        for column in (int(clean.at("S2")[0]), last):
            found = one_head(model, clean, f"hook_{part}", head, axis, column)
            agree(logit_diff(found, corrupted), expected[head.layer, column, head.index], FOLDED)
