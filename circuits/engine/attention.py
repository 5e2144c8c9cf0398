"""Attention of some rows on all that stands before them, the shared part of it never copied."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Rotary:
    """Rotary positions on the first dimensions of a head, as Hugging Face models turn them."""

    cos: Float[Tensor, "pos turned"]
    sin: Float[Tensor, "pos turned"]

    def __call__(
        self, x: Float[Tensor, "*rows head d_head"], places: Int[Tensor, "*row"]
    ) -> Float[Tensor, "*rows head d_head"]:
        """x with each row turned as its position demands."""
        width = self.cos.shape[-1]
        cos, sin = self.cos[places][..., None, :], self.sin[places][..., None, :]
        part, rest = x[..., :width], x[..., width:]
        low, high = part.chunk(2, -1)
        turned = part * cos + torch.cat([-high, low], -1) * sin
        return torch.cat([turned, rest], -1) if rest.shape[-1] else turned


@dataclass(frozen=True, eq=False)
class Keys:
    """What a layer's queries look at: rows shared by all cells, then each cell's own.

    `narrow`: the model takes its softmax in float32 whatever its dtype (Llama).
    """

    shared_k: Float[Tensor, "batch before group d_head"]
    shared_v: Float[Tensor, "batch before group d_head"]
    k: Float[Tensor, "cell batch row group d_head"]
    v: Float[Tensor, "cell batch row group d_head"]
    narrow: bool = False

    @property
    def before(self) -> int:
        """Rows that are shared."""
        return self.shared_k.shape[1]

    @property
    def width(self) -> int:
        """All rows."""
        return self.before + self.k.shape[2]


def attend(
    q: Float[Tensor, "cell batch query head d_head"], keys: Keys, places: Int[Tensor, " query"]
) -> Float[Tensor, "cell batch query head d_head"]:
    """z: values weighted by causal attention; `places` are the positions of the queries."""
    if keys.narrow and q.dtype == torch.float64:
        return weighted(patterns(q, keys, places), keys)
    if q.shape[2] == 1 and keys.k.shape[2] == 1:  # no query stands before the first own row
        return _attend_one_row(q, keys)
    k, v = _all_rows(keys, q.shape[3])
    seen = torch.arange(keys.width, device=q.device) <= places[:, None]
    full = keys.before == 0 and q.shape[2] == keys.width
    z = functional.scaled_dot_product_attention(
        rearrange(q, "cell batch query head e -> (cell batch) head query e"),
        k,
        v,
        attn_mask=None if full else seen,
        is_causal=full,
    )
    return rearrange(z, "(cell batch) head query e -> cell batch query head e", batch=q.shape[1])


def patterns(
    q: Float[Tensor, "cell batch query head d_head"], keys: Keys, places: Int[Tensor, " query"]
) -> Float[Tensor, "cell batch head query src"]:
    """Attention probabilities, where they themselves are read or changed."""
    k, _ = _all_rows(keys, q.shape[3])
    k = rearrange(k, "(cell batch) head src e -> cell batch head src e", batch=q.shape[1])
    scores = einsum(q, k, "c b query head e, c b head src e -> c b head query src")
    unseen = torch.arange(keys.width, device=q.device) > places[:, None]
    return softmax((scores * q.shape[-1] ** -0.5).masked_fill(unseen, -torch.inf), keys.narrow)


def weighted(
    pattern: Float[Tensor, "cell batch head query src"], keys: Keys
) -> Float[Tensor, "cell batch query head d_head"]:
    """z of a pattern."""
    _, v = _all_rows(keys, pattern.shape[2])
    v = rearrange(v, "(cell batch) head src e -> cell batch head src e", batch=pattern.shape[1])
    return einsum(pattern, v, "c b head query src, c b head src e -> c b query head e")


def attend_changed_row(
    q: Float[Tensor, "batch query head d_head"],
    keys: Keys,
    places: Int[Tensor, " query"],
    row: int,
    new: tuple[
        Float[Tensor, "cell batch head d_head"],
        Float[Tensor, "cell batch group d_head"],
        Float[Tensor, "cell batch group d_head"],
    ],
    asks: bool,
) -> Float[Tensor, "cell batch query head d_head"]:
    """z where one row has a new query, key and value in each cell, and all else is shared.

    `keys` hold every row of the intact run, all shared. Its scores are made once for all cells;
    each cell replaces a column of them, and the first row where the changed one `asks`, which then
    is the first of the queries.
    """
    new_q, new_k, new_v = new
    intact = _scores(q[None], keys.shared_k)[0]
    scores: Tensor = repeat(intact, "... -> cell ...", cell=len(new_q)).clone()
    scores[..., row] = _scores_with(q, new_k)
    if asks:
        scores[..., :1, :] = _scores(new_q[:, :, None], keys.shared_k)
        scores[..., :1, row] = _scores_with(new_q[:, :, None], new_k)
    unseen = torch.arange(keys.before, device=q.device) > places[:, None]
    pattern = softmax((scores * q.shape[-1] ** -0.5).masked_fill(unseen, -torch.inf), keys.narrow)
    apart = rearrange(new_v - keys.shared_v[:, row], "c b g e -> c b g 1 e")
    shared = rearrange(keys.shared_v, "b src g e -> b g src e")
    by_group = rearrange(pattern, "c b (g s) query src -> b g (c s query) src", g=shared.shape[1])
    z = rearrange(
        by_group @ shared, "b g (c s query) e -> c b g (s query) e", c=len(new_q), query=len(places)
    )
    weight = rearrange(pattern[..., row], "c b (g s) query -> c b g (s query) 1", g=shared.shape[1])
    return rearrange(
        z + weight * apart, "c b g (s query) e -> c b query (g s) e", query=len(places)
    )


def _scores(
    q: Float[Tensor, "cell batch query head d_head"], k: Float[Tensor, "batch src group d_head"]
) -> Float[Tensor, "cell batch head query src"]:
    """Products of queries with keys that all cells share."""
    by_group = rearrange(q, "c b query (g s) e -> b g (c s query) e", g=k.shape[2])
    found = by_group @ rearrange(k, "b src g e -> b g e src")
    return rearrange(
        found, "b g (c s query) src -> c b (g s) query src", c=len(q), query=q.shape[2]
    )


def _scores_with(
    q: Float[Tensor, "*cell batch query head d_head"], k: Float[Tensor, "cell batch group d_head"]
) -> Float[Tensor, "cell batch head query"]:
    """Products of queries with each cell's own key of one row."""
    by_group = rearrange(q, "... b query (g s) e -> ... b g (s query) e", g=k.shape[2])
    found = (by_group @ k[..., None])[..., 0]
    return rearrange(found, "c b g (s query) -> c b (g s) query", query=q.shape[-3])


def softmax(scores: Float[Tensor, "*rows src"], narrow: bool) -> Float[Tensor, "*rows src"]:
    """Probabilities of scores; rounded to float32 on the way in a `narrow` model."""
    dtype = torch.float32 if narrow else scores.dtype
    return scores.softmax(-1, dtype=dtype).to(scores.dtype)


def _attend_one_row(
    q: Float[Tensor, "cell batch 1 head d_head"], keys: Keys
) -> Float[Tensor, "cell batch 1 head d_head"]:
    """One row a cell, behind all that is shared: two products against the shared rows."""
    groups = keys.k.shape[3]
    each = rearrange(q[:, :, 0], "c b (g s) e -> b g (c s) e", g=groups)
    own = einsum(
        rearrange(q[:, :, 0], "c b (g s) e -> c b g s e", g=groups),
        keys.k[:, :, 0],
        "c b g s e, c b g e -> b g c s",
    )
    shared = each @ rearrange(keys.shared_k, "b src g e -> b g e src")
    scores = torch.cat([shared, rearrange(own, "b g c s -> b g (c s) 1")], -1)
    pattern = softmax(scores * q.shape[-1] ** -0.5, keys.narrow)
    z = pattern[..., :-1] @ rearrange(keys.shared_v, "b src g e -> b g src e")
    weight = rearrange(pattern[..., -1], "b g (c s) -> c b g s 1", c=q.shape[0])
    own_z = weight * keys.v[:, :, 0, :, None]
    z = rearrange(z, "b g (c s) e -> c b g s e", c=q.shape[0]) + own_z
    found: Tensor = rearrange(z, "c b g s e -> c b 1 (g s) e")
    return found


def _all_rows(
    keys: Keys, heads: int
) -> tuple[Float[Tensor, "each head src d_head"], Float[Tensor, "each head src d_head"]]:
    """Keys and values of every cell with the shared rows before them, a copy for each head."""
    cells, times = keys.k.shape[0], heads // keys.k.shape[3]
    found = []
    for shared, own in ((keys.shared_k, keys.k), (keys.shared_v, keys.v)):
        rows = own
        if keys.before:
            rows = torch.cat([repeat(shared, "b src g e -> c b src g e", c=cells), own], 2)
        rows = rearrange(rows, "c b src g e -> (c b) g src e")
        found.append(rows if times == 1 else rows.repeat_interleave(times, 1))
    return found[0], found[1]
