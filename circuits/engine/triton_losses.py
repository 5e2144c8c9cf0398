"""The sums of copy suppression's losses on a GPU, in one kernel: nothing as wide as the vocabulary
is written for a head.

`direct_losses` says what is summed. Here each prediction's sums are kept relative to the largest of
their powers so far, so that changes of any size are summed alike. Products are in float32, by three
passes of the tensor cores: each factor is the sum of two TF32 numbers ("tf32x3").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import triton  # type: ignore[import-not-found]  # comes with torch where there is a GPU
import triton.language as tl  # type: ignore[import-not-found]
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from claimlens.circuits.kernels.direct import KEEPS

PREDICTIONS, COLUMNS, WAYS = 64, 64, 64
"""Of one step of a program: predictions of one prompt, columns of the vocabulary, directions."""
FEWEST = 16
"""Of each, that a product on the tensor cores takes."""
OPTIONS: dict[str, Any] = {"PRECISION": "tf32x3", "num_warps": 4, "num_stages": 1}


@dataclass(frozen=True, eq=False)
class Sums:
    """What every head adds to the logits of some predictions, laid out for the kernel.

    `ablation` times W_O W_U is added where nothing is kept, `p` times the logits of `basis` for the
    projection.
    """

    ablation: Float[Tensor, "head row slot d_head"]
    p: Float[Tensor, "head row slot way"]
    basis: Float[Tensor, "row d_model way"]

    @classmethod
    def of(
        cls,
        ablation: Float[Tensor, "head row slot d_head"],
        p: Float[Tensor, "head row slot way"],
        basis: Float[Tensor, "row way d_model"],
    ) -> Self:
        """The same with zeros behind, so that rows begin where wide loads can."""
        step = _step(p.shape[-1])
        ways = max(1, -(-p.shape[-1] // step)) * step
        return cls(
            _padded(ablation, _power(ablation.shape[-1])),
            _padded(p, ways),
            _padded(rearrange(basis, "row way d -> row d way"), ways),
        )

    def logs(
        self,
        bits: Float[Tensor, "row slot column"],
        unembed: Float[Tensor, "d_model column"],
        written: Float[Tensor, "column head d_head"],
    ) -> Float[Tensor, "part row head slot"]:
        """log2 of the sum over these columns of 2^(bits + change), for each of KEEPS [bits]."""
        heads, rows, slots, width = self.ablation.shape
        own, ways = unembed.T @ self.basis, self.p.shape[-1]  # row column way
        found = bits.new_empty(len(KEEPS), rows, heads, slots)
        step, grid = _step(ways), (heads, rows, triton.cdiv(slots, PREDICTIONS))
        sizes = (heads, rows, slots, bits.shape[-1], ways)
        shape = {"D": width, "S": step, "ONE": ways == step, "M": PREDICTIONS, "N": COLUMNS}
        given = (bits.contiguous(), self.ablation, written, self.p, own, found)
        _sums[grid](*given, *sizes, **shape, **OPTIONS)
        return found


def through(
    outputs: Iterable[Float[Tensor, "some d_head d_model"]],
    unembed: Float[Tensor, "d_model column"],
    heads: int,
    d_head: int,
) -> Float[Tensor, "column head wide"]:
    """W_O W_U of every head, from W_O of some heads at a time; zeros behind d_head."""
    wide, first = _power(d_head), 0
    found = unembed.new_empty(unembed.shape[1], heads, wide)
    for output in outputs:
        some = slice(first, first + len(output))
        padded = pad(output, (0, 0, 0, wide - d_head))
        product = unembed.T @ rearrange(padded, "some e d -> d (some e)")
        found[:, some] = rearrange(product, "column (some e) -> column some e", e=wide)
        first = some.stop
    return found


def _power(width: int) -> int:
    return max(FEWEST, int(triton.next_power_of_2(width)))


def _step(ways: int) -> int:
    return min(WAYS, _power(ways))


def _padded(x: Float[Tensor, "*rows inner"], width: int) -> Float[Tensor, "*rows width"]:
    short = width - x.shape[-1]
    return pad(x, (0, short)).contiguous() if short else x.contiguous()


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def _more(largest: tl.tensor, total: tl.tensor, bits: tl.tensor) -> tl.tensor:
    """A running sum of powers of 2, relative to the largest so far, with more of them."""
    now = tl.maximum(largest, tl.max(bits, 1))
    total = total * tl.exp2(largest - now) + tl.sum(tl.exp2(bits - now[:, None]), 1)
    return now, total


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def _along(
    p: tl.tensor,
    own: tl.tensor,
    inside: tl.tensor,
    there: tl.tensor,
    ways: tl.tensor,
    S: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """p times the directions' logits, some directions at a time: `p` and `own` point at rows."""
    s = tl.arange(0, S)
    found = tl.zeros((p.shape[0], own.shape[0]), tl.float32)
    for way in range(0, ways, S):
        basis = tl.load(own[:, None] + way + s, mask=there[:, None], other=0.0)
        share = tl.load(p[:, None] + way + s, mask=inside[:, None], other=0.0)
        found = tl.dot(share, tl.trans(basis), found, input_precision=PRECISION)
    return found


@triton.jit  # type: ignore[untyped-decorator]  # triton has no types
def _sums(
    bits: tl.tensor, ablation: tl.tensor, written: tl.tensor, p: tl.tensor, own: tl.tensor,
    found: tl.tensor, heads: tl.tensor, rows: tl.tensor, slots: tl.tensor,
    columns: tl.tensor, ways: tl.tensor,
    D: tl.constexpr, S: tl.constexpr, ONE: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    """A program is one head, one prompt and M of its predictions; it goes through all columns."""
    head, row = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    slot, d, s = tl.program_id(2) * M + tl.arange(0, M), tl.arange(0, D), tl.arange(0, S)
    inside, each = slot < slots, (head * rows + row) * slots + slot
    less = tl.load(ablation + each[:, None] * D + d, mask=inside[:, None], other=0.0)
    mine = tl.load(p + each[:, None] * ways + s, mask=inside[:, None], other=0.0)
    m0 = tl.full((M,), float("-inf"), tl.float32)
    m1, m2, t0 = m0, m0, tl.zeros((M,), tl.float32)
    t1, t2 = t0, t0
    for first in range(0, columns, N):
        column = first + tl.arange(0, N)
        there = column < columns
        at = bits + (row * slots + slot)[:, None] * columns + column
        clean = tl.load(at, mask=inside[:, None] & there, other=float("-inf"))
        w = tl.load(
            written + (column * heads + head)[:, None] * D + d, mask=there[:, None], other=0.0
        )
        ablated = clean + tl.dot(less, tl.trans(w), input_precision=PRECISION)
        basis = own + (row * columns + column) * ways
        if ONE:
            o = tl.load(basis[:, None] + s, mask=there[:, None], other=0.0)
            along = tl.dot(mine, tl.trans(o), input_precision=PRECISION)
        else:
            along = _along(p + each * ways, basis, inside, there, ways, S, PRECISION)
        m0, t0 = _more(m0, t0, ablated)
        m1, t1 = _more(m1, t1, clean - along)
        m2, t2 = _more(m2, t2, ablated + along)
    out, part = found + (row * heads + head) * slots + slot, heads * rows * slots
    tl.store(out, tl.log2(t2) + m2, mask=inside)
    tl.store(out + part, tl.log2(t1) + m1, mask=inside)
    tl.store(out + 2 * part, tl.log2(t0) + m0, mask=inside)
