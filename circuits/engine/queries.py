"""One head's query with a vector added at many scales: its attention without another forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.engine.attention import softmax
from claimlens.circuits.engine.changes import Cell, Site, replace
from claimlens.circuits.engine.read import LogitDiff
from claimlens.circuits.engine.run import Run
from claimlens.circuits.engine.sweep import sweep
from claimlens.circuits.kernels.bridge import norm_parts, query_weights
from claimlens.circuits.parts import Head, Position
from claimlens.circuits.verdict import NotMeasured


@dataclass(frozen=True, eq=False)
class Injections:
    """A head of an intact run whose query at `at` is that of its input plus scale x `vector`.

    `norm` is where the vector enters, as in `inject`: frozen to the intact run's scale or free,
    before the normalisation or after it.
    """

    run: Run
    head: Head
    vector: Float[Tensor, "batch d_model"]
    scales: Sequence[float]
    at: Position
    norm: Literal["free", "frozen", "after"]

    @cached_property
    def places(self) -> Int[Tensor, "batch slot"]:
        """Where the query is another."""
        return self.run.prompts.at(self.at)

    @cached_property
    def queries(self) -> Float[Tensor, "scale batch slot d_head"]:
        """The new queries, before rotary positions."""
        rows = torch.arange(len(self.vector), device=self.vector.device)[:, None]
        layer, model = self.head.layer, self.run.model
        own = self.run.pre[layer][rows, self.places]
        scales = self.vector.new_tensor(list(self.scales))
        added = (
            (scales[:, None, None] * self.vector)[:, :, None]
            .to(own.dtype)
            .expand(-1, -1, own.shape[1], -1)
        )
        read = added
        if self.norm != "after":
            before, scale = norm_parts(model, layer, own)
            after, free = norm_parts(model, layer, own + added)
            read = after / (scale if self.norm == "frozen" else free) - before / scale
        intact = self.run.q[layer][rows, self.places, self.head.index]
        weights = query_weights(model, self.head).to(read.dtype)
        new = intact + (read @ weights).to(intact.dtype)
        self._check_changed((new != intact).flatten(1).any(1).tolist())
        return new

    def _check_changed(self, changed: Sequence[bool]) -> None:
        """Raise NotMeasured for a scale, other than 0, that changes no prompt's query."""
        for scale, differs in zip(self.scales, changed, strict=True):
            if scale and not differs:
                raise NotMeasured(
                    f"{scale:g} x vectors in the query of {self.head} at {self.at} changed "
                    "nothing: the activation already was that; is the vector zero?"
                )

    @cached_property
    def scores(self) -> Float[Tensor, "scale batch slot src"]:
        """Attention scores of the new queries, sources behind them masked."""
        run, places = self.run, self.places
        q = self.queries
        if run.rotary is not None:
            q = run.rotary(q[..., None, :], places)[..., 0, :]
        k = run.turned_k[self.head.layer][:, :, self.head.index // run.weights.shared]
        scores: Tensor = (
            einsum(q, k, "scale b slot e, b src e -> scale b slot src") * q.shape[-1] ** -0.5
        )
        unseen = torch.arange(k.shape[1], device=k.device) > places[..., None]
        return scores.masked_fill(unseen, -torch.inf)

    @cached_property
    def pattern(self) -> Float[Tensor, "scale batch slot src"]:
        """Attention probabilities of the new queries."""
        return softmax(self.scores, self.run.weights.narrow)

    def attention(
        self, src: Int[Tensor, "batch slot"], of: Literal["probability", "score"]
    ) -> Float[Tensor, "scale batch"]:
        """Attention to these positions; slots are paired and averaged, as in `attention`."""
        if of == "score" and bool((src > self.places).any()):
            raise NotMeasured(
                f"a source lies after {self.at} in some prompt: that score is masked, so it has "
                "no value"
            )
        rows = torch.arange(len(src), device=src.device)[:, None]
        slots = torch.arange(self.places.shape[1], device=src.device)[None]
        whole = self.scores if of == "score" else self.pattern
        return whole[:, rows, slots, src].mean(-1)

    def logit_diff(self) -> Float[Tensor, "scale batch"]:
        """The logit difference with each of the new queries."""
        site = Site("q", self.head.layer, self.head.index)
        cells = [
            Cell.of(replace(site, query, self.places, noop=scale == 0))
            for scale, query in zip(self.scales, self.queries, strict=True)
        ]
        return sweep(self.run, cells, LogitDiff.of(self.run.prompts), "query_sweep")[..., 0]
