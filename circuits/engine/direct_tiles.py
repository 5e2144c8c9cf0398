"""How much of the vocabulary and of the prompts is read at a time, so that the memory is kept."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from claimlens.circuits.engine.policy import policy
from claimlens.circuits.kernels.direct import DirectRun
from claimlens.circuits.parts import Head
from claimlens.circuits.verdict import NotMeasured

COLUMNS, FEWEST = 2048, 32
"""Columns of the vocabulary at a time, where the memory allows it; and at least."""
BLOCK = 2**20
"""Logits at a time: what stays near the processor. At least those of one prompt."""
BLOCK_OF_GPU = 2**26
"""The same for a kernel that does not write them."""


def sizes(
    run: DirectRun,
    heads: Sequence[Head],
    dst: Int[Tensor, "batch slot"],
    keeps: int,
    fused: bool = False,
) -> tuple[int, int]:
    """Columns and prompts at a time, so that the memory bound is kept."""

    def taken(columns: int, prompts: int) -> int:
        needed = _bytes(run, heads, dst, keeps, columns, prompts)
        return needed + fused * prompts * _bytes_at_once(run, heads, dst)

    bound, d_vocab, slots = policy().max_bytes, int(run.bridge.cfg.d_vocab), dst.shape[1]
    columns = min(COLUMNS, d_vocab)
    while columns > FEWEST and taken(columns, 1) > bound:
        columns = max(columns // 2, FEWEST)
    needed = taken(columns, 1)
    if needed > bound:
        raise NotMeasured(
            f"one prompt with {slots} predictions and {len(heads)} heads takes {needed:,} bytes, "
            f"the bound is {bound:,}; allow more memory, or give fewer or shorter prompts"
        )
    size = max(1, (BLOCK_OF_GPU if fused else BLOCK) // (slots * columns))
    size = min(size, len(dst))
    while size > 1 and taken(columns, size) > bound:
        size -= 1
    return columns, size


def _bytes(
    run: DirectRun, heads: Sequence[Head], dst: Tensor, keeps: int, columns: int, prompts: int
) -> int:
    """Memory for so many columns of so many prompts at a time, and for what is kept of all."""
    (batch, slots), n = dst.shape, len(heads)
    src, width = run.prompts.tokens.shape[1], int(run.bridge.cfg.d_model)
    kept = batch * n * (2 * keeps * slots + src)
    shared = columns * (n * int(run.bridge.cfg.d_head) + width)
    own = prompts * (columns * (6 * slots + src) + 2 * width * (slots + src))
    return (kept + shared + own) * run.scale.element_size()


def _bytes_at_once(run: DirectRun, heads: Sequence[Head], dst: Tensor) -> int:
    """Memory for z and attention of all heads at a prompt's predictions, also in the making."""
    src, d_head = run.prompts.tokens.shape[1], int(run.bridge.cfg.d_head)
    return 3 * len(heads) * dst.shape[1] * (src + d_head) * run.scale.element_size()
