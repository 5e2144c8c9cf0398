"""One forward pass, read source by source: what every head moves from where, and what it does.

A head's direct output at a destination is the sum over sources of attention times the source's
value through W_O. The kernels of copy suppression take that sum apart, put another one in its
place, and see what becomes of the prediction: all heads from one pass, the final scale frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.kernels.attribution import FINAL_SCALE
from claimlens.circuits.kernels.bridge import (
    Bridge,
    check_plain_output,
    output_weights,
    soft_cap,
    unembedding,
    value_head,
)
from claimlens.circuits.kernels.cache import Model, cache, intact
from claimlens.circuits.kernels.memory import MAX_LOGITS, Cache
from claimlens.circuits.parts import Head, Position, Prompts

LOOKS = ("attn.hook_pattern", "attn.hook_v")
OUTPUT = ("attn.hook_z",)
STREAM = ("hook_resid_pre",)
Keep = Literal["projection", "perpendicular", "nothing"]
"""Which part of a head's output stays."""
KEEPS: tuple[Keep, ...] = get_args(Keep)


@dataclass(frozen=True, eq=False)
class DirectRun:
    """A forward pass with the patterns, values and z of some heads.

    Direct effects are small differences: they are worked out in float32 at least.
    """

    bridge: Bridge
    prompts: Prompts
    cache: Cache

    @property
    def own(self) -> Float[Tensor, "batch src d_model"]:
        """The unembedding of the token at each source."""
        return wide(unembedding(self.bridge).T[attended_tokens(self.prompts)])

    @property
    def scale(self) -> Float[Tensor, "batch dst 1"]:
        """The final normalisation's scale."""
        return wide(self.cache[FINAL_SCALE])

    def pattern(self, head: Head) -> Float[Tensor, "batch dst src"]:
        """Attention probabilities."""
        return wide(self.cache[_hook(head, "pattern")][:, head.index])

    def stream(self, layer: int) -> Float[Tensor, "batch dst d_model"]:
        """The residual stream that a layer reads."""
        return self.cache[f"blocks.{layer}.{STREAM[0]}"]

    def moved(self, head: Head) -> Float[Tensor, "batch src d_model"]:
        """What the head would write if it attended to one source alone: its value through W_O."""
        return self.through_output(self.value(head), head)

    def value(self, head: Head) -> Float[Tensor, "batch src d_head"]:
        """Values; heads of a group share them."""
        return wide(self.cache[_hook(head, "v")][:, :, value_head(self.bridge, head)])

    def z(self, head: Head) -> Float[Tensor, "batch dst d_head"]:
        """Attention-weighted values."""
        return wide(self.cache[_hook(head, "z")][:, :, head.index])

    def written(self, head: Head) -> Float[Tensor, "batch dst d_model"]:
        """What the head writes: z through W_O, without b_O."""
        return self.through_output(self.z(head), head)

    def through_output(
        self, x: Float[Tensor, "batch pos d_head"], head: Head
    ) -> Float[Tensor, "batch pos d_model"]:
        """x through the head's W_O."""
        weights = wide(output_weights(self.bridge, head))
        return einsum(x, weights, "batch pos d_head, d_head d -> batch pos d")

    def rows(self, rows: slice) -> DirectRun:
        """Some of the prompts, without a copy of what was run."""
        run = self.cache
        kept = {name: value[rows] for name, value in run.activations.items()}
        index = torch.arange(len(self.prompts), device=self.prompts.tokens.device)[rows]
        part = Cache(run.final[rows], kept, run.read_out)
        return DirectRun(self.bridge, self.prompts.select(index), part)


Change = Callable[[DirectRun, Head], Float[Tensor, "batch dst d_model"]]
"""What is added to the residual stream's end when a head's direct output is replaced."""
Score = Callable[[Float[Tensor, "batch slot d_vocab"]], Float[Tensor, "batch slot"]]
"""A number for each prediction; made for the clean logits and the tokens that do come next."""
Scoring = Callable[[Float[Tensor, "batch slot d_vocab"], Int[Tensor, "batch slot"]], Score]


def direct_run(
    model: Model,
    prompts: Prompts,
    heads: Sequence[Head],
    read: Sequence[str] = (*LOOKS, *OUTPUT),
) -> DirectRun:
    """Run `prompts` once, keeping the hooks `read` of the heads' layers.

    Raises NotApplicable where the model normalises what its heads write.
    """
    bridge = intact(model)
    for head in heads:
        check_plain_output(bridge, head)
    layers = sorted({head.layer for head in heads})
    names = [f"blocks.{n}.{what}" for n in layers for what in read]
    return DirectRun(bridge, prompts, cache(model, prompts, [*names, FINAL_SCALE]))


def attended_tokens(prompts: Prompts) -> Int[Tensor, "batch src"]:
    """The token that each source is taken to hold: its own; in shuffled prompts another's.

    So that "the attended token's own logit" has a control: the logit of a token that stands
    elsewhere in the same prompt.
    """
    return prompts.tokens if prompts.moved is None else prompts.tokens.gather(1, prompts.moved)


def inside(prompts: Prompts) -> Float[Tensor, "batch pos"]:
    """1 where a token stands, 0 at the padding."""
    index = torch.arange(prompts.tokens.shape[1], device=prompts.tokens.device)
    return (index < prompts.lengths[:, None]).to(torch.get_default_dtype())


def not_bos(prompts: Prompts) -> Float[Tensor, "batch pos"]:
    """1 where a token stands that is not BOS; all tokens where the prompts label no BOS."""
    counted = inside(prompts)
    if "BOS" not in prompts.positions:
        return counted
    return counted.scatter(1, prompts.at("BOS"), 0.0)


def after_places(
    prompts: Prompts, at: str | Position | None
) -> tuple[Int[Tensor, "batch slot"], Float[Tensor, "batch slot"]]:
    """The positions of a label, or all but the first; and 1 where one of them counts."""
    if at is None:
        width = prompts.tokens.shape[1]
        every = torch.arange(1, width, device=prompts.tokens.device).repeat(len(prompts), 1)
        return every, inside(prompts)[:, 1:]
    given = prompts.at(at)
    return given, torch.ones_like(given, dtype=torch.get_default_dtype())


def swept(
    run: DirectRun,
    heads: Sequence[Head],
    dst: Int[Tensor, "batch slot"],
    change: Change,
    scoring: Scoring,
) -> Float[Tensor, "batch head slot"]:
    """The score of each prediction at `dst`, head by head, with its direct output changed.

    No further forward pass: as many prompts at a time as keep the logits under MAX_LOGITS, and
    one head at a time.
    """
    size = max(1, MAX_LOGITS // (dst.shape[1] * int(run.bridge.cfg.d_vocab)))
    parts = []
    for start in range(0, len(run.prompts), size):
        rows = slice(start, start + size)
        parts.append(_swept_rows(run.rows(rows), heads, dst[rows], change, scoring))
    return torch.cat(parts)


def by_layer(
    x: Float[Tensor, "batch each *rest"], model: Model
) -> Float[Tensor, "batch layer head *rest"]:
    """Values of all heads, arranged by layer."""
    layers = int(intact(model).cfg.n_layers)
    return rearrange(x, "batch (layer head) ... -> batch layer head ...", layer=layers)


def wide(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x in float32, or as it is where it is finer."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _swept_rows(
    run: DirectRun, heads: Sequence[Head], dst: Tensor, change: Change, scoring: Scoring
) -> Float[Tensor, "batch head slot"]:
    rows = torch.arange(len(dst), device=dst.device)[:, None]
    clean = wide(run.cache.logits_at(dst))
    cap = soft_cap(run.bridge)
    before = clean if cap is None else cap * (clean / cap).atanh()
    following = run.prompts.tokens[rows, (dst + 1).clamp(max=run.prompts.tokens.shape[1] - 1)]
    score = scoring(clean, following)
    unembed = wide(unembedding(run.bridge))
    scores = []
    for head in heads:
        read = change(run, head)[rows, dst] / run.scale[rows, dst]
        after = before + einsum(read, unembed, "batch slot d, d d_vocab -> batch slot d_vocab")
        scores.append(score(after if cap is None else cap * (after / cap).tanh()))
    return torch.stack(scores, 1)


def _hook(head: Head, what: str) -> str:
    return f"blocks.{head.layer}.attn.hook_{what}"
