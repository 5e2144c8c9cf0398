"""What becomes of every prediction's loss when a head keeps only a part: small products alone.

With a head's attention a, its z and W_O, what it moves from a source r, the unembedding u of the
token there, W_U, and the final scale s, the logits of a prediction change by

    nothing        -(z / s) (W_O W_U)       W_O W_U once for all predictions
    projection      that + p (u W_U)        p = (a / s) r·u / |u|²; u W_U once for all heads
    perpendicular  -p (u W_U)               where z is the attention times the values

and its loss by log E[2^change] - change of the token that comes, in bits, E the mean over the
clean prediction: two powers of 2 serve the three losses (and cost less than powers of e). The
vocabulary is gone through some columns at a time, each time with an E of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.engine.direct_effects import (
    check_linear,
    layers,
    moved_along,
    stacked_output,
    written_along,
)
from claimlens.circuits.engine.direct_tiles import sizes
from claimlens.circuits.engine.gpu import fuses
from claimlens.circuits.engine.policy import policy
from claimlens.circuits.kernels.bridge import unembedding, unembedding_bias
from claimlens.circuits.kernels.direct import KEEPS, DirectRun, Keep, wide
from claimlens.circuits.parts import Head

if TYPE_CHECKING:
    from claimlens.circuits.engine.triton_losses import Sums

NARROW = 40.0
"""Changes [bits] up to which sums of powers of 2 lose nothing: what float32 cannot hold is below
2^-126, and with a factor of 2^40 still less than 2^-24 of a sum of 2^-40."""
BIT = math.log(2)
"""One bit in nats."""
Written = list[Float[Tensor, "d_head column"]] | Float[Tensor, "column head d_head"]
"""What heads' z do to logits, head by head, or of all heads for the kernel."""


def loss_changes_by_part(
    name: str,
    run: DirectRun,
    heads: Sequence[Head],
    dst: Int[Tensor, "batch slot"],
    keeps: Sequence[Keep],
    negative_only: bool,
) -> dict[Keep, Float[Tensor, "batch head slot"]]:
    """How the loss of the token after each destination changes, by the part that is kept [nats].

    Raises Unsupported where logits are capped, and where z is not attention times values though a
    perpendicular part is asked for; NotMeasured where one prompt does not fit the memory bound.
    """
    check_linear(run, heads, keeps)
    scale, d_head, src = run.scale, int(run.bridge.cfg.d_head), run.prompts.tokens.shape[1]
    fused = fuses(name, scale.device, scale.dtype, d_head, src)
    columns, size = sizes(run, heads, dst, len(keeps), fused)
    parts = [
        _predictions(run.rows(slice(i, i + size)), heads, dst[i : i + size], keeps, negative_only)
        for i in range(0, len(dst), size)
    ]
    d_vocab, done = int(run.bridge.cfg.d_vocab), 0
    for start in range(0, d_vocab, columns):
        some = slice(start, min(start + columns, d_vocab))
        unembed = wide(unembedding(run.bridge)[:, some])
        bias = wide(unembedding_bias(run.bridge)[some])
        written = _through(run, heads, unembed, fused)
        for part in parts:
            part.read(unembed, bias, written)
            done += len(part.dst) * len(bias)
            _tell(name, len(heads) * done // d_vocab, len(heads) * len(dst))
    found = torch.cat([part.changes() for part in parts], 1)
    return dict(zip(keeps, found, strict=True))


@dataclass(frozen=True, eq=False)
class _Predictions:
    """Some prompts' predictions, and the sums over the columns read so far.

    `target` is the logit of the token that comes, `at_target` how it changes; `clean` and `logs`
    are the logarithms of the sums, relative to `target` [bits]. `part` times attention is p.
    """

    run: DirectRun
    heads: Sequence[Head]
    dst: Int[Tensor, "row slot"]
    keeps: Sequence[Keep]
    part: Float[Tensor, "row head src"]
    target: Float[Tensor, "row slot"]
    at_target: Float[Tensor, "keep row head slot"]
    clean: Float[Tensor, "row slot"]
    logs: Float[Tensor, "keep row head slot"]

    def read(
        self,
        unembed: Float[Tensor, "d_model column"],
        bias: Float[Tensor, " column"],
        written: Written,
    ) -> None:
        """Take some more columns into the sums."""
        bits = _final(self.run, self.dst) @ unembed
        bits += bias / BIT - self.target[..., None]
        whole = _log_sum(bits)
        bits -= whole[..., None]
        chance = bits.exp2()
        torch.logaddexp2(self.clean, chance.sum(-1).log2() + whole, out=self.clean)
        if isinstance(written, Tensor):
            every = self._at_once.logs(bits, unembed, written) + whole[:, None]
            found = torch.stack([every[KEEPS.index(keep)] for keep in self.keeps])
            torch.logaddexp2(self.logs, found, out=self.logs)
            return
        own = self._basis() @ unembed
        most = float(own.abs().amax()) if own.numel() else 0.0
        tile = _Tile(bits.flatten(0, 1), chance.flatten(0, 1), own, most)
        for i, head in enumerate(self.heads):
            ablation = -self.run.z(head)[_rows(self.dst), self.dst] * _per_scale(self.run, self.dst)
            found = tile.logs(self.keeps, ablation.flatten(0, 1), written[i], self._weights(i))
            found = rearrange(found, "keep (row slot) -> keep row slot", row=len(whole)) + whole
            self.logs[:, :, i] = torch.logaddexp2(self.logs[:, :, i], found)

    @cached_property
    def _at_once(self) -> Sums:
        """What all heads add, for the kernel that goes through them at once."""
        from claimlens.circuits.engine.triton_losses import Sums

        z = torch.stack([self.run.z(head) for head in self.heads])
        ablation = -z[:, _rows(self.dst), self.dst] * _per_scale(self.run, self.dst)
        if list(self.keeps) == ["nothing"]:
            return Sums.of(ablation, ablation[..., :0], self.run.own[:, :0])
        p = _attended(self.run, self.heads, self.dst) * self.part[:, :, None]
        return Sums.of(ablation, rearrange(p, "row head ... -> head row ..."), self.run.own)

    def _p(self, i: int) -> Float[Tensor, "row slot src"]:
        return _attended(self.run, self.heads[i : i + 1], self.dst)[:, 0] * self.part[:, i, None]

    def _basis(self) -> Float[Tensor, "row way d_model"]:
        """What projections are sums of: the sources' unembeddings; those of one head, where they
        are fewer, of themselves; of nothing where none is asked for."""
        if list(self.keeps) == ["nothing"]:
            return self.run.own[:, :0]
        return self._p(0) @ self.run.own if self._few else self.run.own

    def _weights(self, i: int) -> Float[Tensor, "row slot way"]:
        """Each prediction's projection in that basis."""
        if list(self.keeps) == ["nothing"]:
            return self._p(i)[..., :0]
        if self._few:
            rows, slots = self.dst.shape
            return torch.eye(slots, dtype=self.part.dtype, device=self.dst.device).repeat(
                rows, 1, 1
            )
        return self._p(i)

    @property
    def _few(self) -> bool:
        return len(self.heads) == 1 and self.dst.shape[1] < self.part.shape[2]

    def changes(self) -> Float[Tensor, "keep row head slot"]:
        """The changes of the losses, once all columns are read [nats]."""
        return (self.logs - self.clean[:, None] - self.at_target) * BIT


@dataclass(frozen=True, eq=False)
class _Tile:
    """Some columns of some predictions: the clean prediction among these columns alone, and what
    the projections' basis adds to them, of at most the size `most`."""

    bits: Float[Tensor, "prediction column"]
    chance: Float[Tensor, "prediction column"]
    own: Float[Tensor, "row way column"]
    most: float

    def logs(
        self,
        keeps: Sequence[Keep],
        ablation: Float[Tensor, "prediction d_head"],
        written: Float[Tensor, "d_head column"],
        p: Float[Tensor, "row slot way"],
    ) -> Float[Tensor, "keep prediction"]:
        """log E[2^change] for each part kept: from sums of powers, or where these may lose
        something, without."""
        ablated = cache(lambda: torch.addmm(self.bits, ablation, written).exp2_())
        along = cache(lambda: torch.bmm(p, self.own).exp2_().flatten(0, 1))
        sums: dict[Keep, Callable[[], Tensor]] = {
            "nothing": lambda: ablated().sum(-1),
            "perpendicular": lambda: (self.chance / along()).sum(-1),
            "projection": lambda: (ablated() * along()).sum(-1),
        }
        if float(p.abs().sum(-1).amax()) * self.most <= NARROW:
            logs = torch.stack([sums[keep]() for keep in keeps]).log2()
            if float(logs.abs().amax()) <= NARROW:
                return logs
        changes = by_part(ablation @ written, torch.bmm(p, self.own).flatten(0, 1))
        return torch.stack([_log_sum(self.bits + changes[keep]) for keep in keeps])


def by_part(ablated: Tensor, along: Tensor) -> dict[Keep, Tensor]:
    """What is added to logits, by the part that is kept; from the effect of ablating, and what the
    projections add."""
    return {"nothing": ablated, "perpendicular": -along, "projection": ablated + along}


def _predictions(
    run: DirectRun,
    heads: Sequence[Head],
    dst: Int[Tensor, "row slot"],
    keeps: Sequence[Keep],
    negative_only: bool,
) -> _Predictions:
    """Predictions of which no column is read yet."""
    last = run.prompts.tokens.shape[1] - 1
    following = run.prompts.tokens[_rows(dst), (dst + 1).clamp(max=last)]
    toward = wide(unembedding(run.bridge).T[following])
    target = (_final(run, dst) * toward).sum(-1)
    target += wide(unembedding_bias(run.bridge)[following]) / BIT
    part = _coefficients(run, heads, negative_only)
    own = einsum(run.own, toward, "row src d, row slot d -> row slot src")
    along, first = [], 0
    for some in layers(heads):
        mine = part[:, first : first + len(some), None]
        along.append((_attended(run, some, dst) * mine * own[:, None]).sum(-1))
        first += len(some)
    per_scale = _per_scale(run, dst)[:, None, :, 0]
    ablated = -written_along(run, heads, dst, toward) * per_scale
    parts = by_part(ablated, torch.cat(along, 1))
    at_target = torch.stack([parts[keep] for keep in keeps])
    nothing = torch.full_like(at_target, -torch.inf)
    clean = torch.full_like(target, -torch.inf)
    return _Predictions(run, heads, dst, keeps, part, target, at_target, clean, nothing)


def _coefficients(
    run: DirectRun, heads: Sequence[Head], negative_only: bool
) -> Float[Tensor, "row head src"]:
    """What a head moves from each source, projected on the source's unembedding, in units of it."""
    own = run.own
    along, squared = moved_along(run, heads, own), own.square().sum(-1)[:, None]
    if negative_only:
        along = along.clamp(max=0.0)
    return torch.where(squared > 0, along / squared, 0.0)


def _attended(
    run: DirectRun, heads: Sequence[Head], dst: Int[Tensor, "row slot"]
) -> Float[Tensor, "row head slot src"]:
    """Heads' attention, over the final scale [bits]."""
    rows = _rows(dst)
    found = torch.stack([run.pattern(head)[rows, dst] for head in heads], 1)
    return found * _per_scale(run, dst)[:, None]


def _per_scale(run: DirectRun, dst: Int[Tensor, "row slot"]) -> Float[Tensor, "row slot 1"]:
    """One over the final scale, so that what is multiplied by it is in bits."""
    return 1 / (run.scale[_rows(dst), dst] * BIT)


def _final(run: DirectRun, dst: Int[Tensor, "row slot"]) -> Float[Tensor, "row slot d_model"]:
    """The normalised final stream, so that what is read out of it is in bits."""
    return wide(run.cache.final)[_rows(dst), dst] / BIT


def _through(
    run: DirectRun, heads: Sequence[Head], unembed: Float[Tensor, "d_model column"], fused: bool
) -> Written:
    """W_O W_U of each head, or laid out for the kernel."""
    outputs = (stacked_output(run.bridge, some) for some in layers(heads))
    if not fused:
        return [written for output in outputs for written in output @ unembed]
    from claimlens.circuits.engine.triton_losses import through

    return through(outputs, unembed, len(heads), int(run.bridge.cfg.d_head))


def _log_sum(bits: Float[Tensor, "*prediction column"]) -> Float[Tensor, "*prediction"]:
    """log2 of the sum of powers of 2."""
    largest = bits.amax(-1, keepdim=True)
    return (bits - largest).exp2_().sum(-1).log2() + largest[..., 0]


def _rows(dst: Int[Tensor, "row slot"]) -> Int[Tensor, "row 1"]:
    return torch.arange(len(dst), device=dst.device)[:, None]


def _tell(name: str, done: int, total: int) -> None:
    told = policy().progress
    if told is not None:
        told(name, done, total)
