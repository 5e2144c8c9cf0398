"""What is read of a run: logits of a few tokens, log-probabilities, losses, any activation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.engine.changes import Site
from claimlens.circuits.engine.policy import Unsupported
from claimlens.circuits.engine.weights import Weights
from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.kernels.memory import MAX_LOGITS
from claimlens.circuits.metrics import answer_loss, answer_tokens, logit_diff
from claimlens.circuits.parts import Prompts
from claimlens.circuits.verdict import NotMeasured

Metric = Callable[[Model, Prompts], Float[Tensor, " batch"]]


@runtime_checkable
class ReadOut(Protocol):
    """Something read at positions `at` of each prompt, from the normalised final stream."""

    @property
    def at(self) -> Int[Tensor, "batch slot"]:
        """Token indices, prompt by prompt."""
        ...

    def read(
        self,
        weights: Weights,
        final: Float[Tensor, "cell batch slot d_model"],
        rows: Int[Tensor, " batch"],
    ) -> Float[Tensor, "cell batch slot *rest"]:
        """What is read in some prompts (`rows`); `final` is normalised."""
        ...


@dataclass(frozen=True, eq=False)
class Activation:
    """The activation at a site; of a pattern, the row of each position."""

    site: Site
    at: Int[Tensor, "batch slot"]


@dataclass(frozen=True, eq=False)
class LogitDiff:
    """The logit of one token minus that of another [logits]: two columns of W_U, no more."""

    answer: Int[Tensor, " batch"]
    wrong: Int[Tensor, " batch"]
    at: Int[Tensor, "batch slot"]

    @classmethod
    def of(cls, prompts: Prompts) -> LogitDiff:
        """Answer minus wrong answer, after END (Wang et al. 2022, section 2)."""
        answer, wrong = answer_tokens(prompts)
        return cls(answer, wrong, prompts.at("END"))

    def read(self, weights: Weights, final: Tensor, rows: Tensor) -> Tensor:
        """As `ReadOut.read`."""
        answer, wrong = self.answer[rows], self.wrong[rows]
        toward = (weights.unembed.weight[:, answer] - weights.unembed.weight[:, wrong]).T
        found = einsum(final, toward, "cell b slot d, b d -> cell b slot")
        bias = weights.unembed.bias
        return found if bias is None else found + (bias[answer] - bias[wrong])[:, None]


@dataclass(frozen=True, eq=False)
class Logits:
    """The logits of a few tokens, others in each prompt [logits]."""

    tokens: Int[Tensor, "batch token"]
    at: Int[Tensor, "batch slot"]

    def read(self, weights: Weights, final: Tensor, rows: Tensor) -> Tensor:
        """As `ReadOut.read`, with one value for each token."""
        tokens = self.tokens[rows]
        columns = weights.unembed.weight.T[tokens]
        found = einsum(final, columns, "cell b slot d, b token d -> cell b slot token")
        bias = weights.unembed.bias
        return found if bias is None else found + bias[tokens][:, None]


@dataclass(frozen=True, eq=False)
class LogProbs:
    """Log-probabilities of the whole vocabulary [nats]: as large as they are."""

    at: Int[Tensor, "batch slot"]

    def read(self, weights: Weights, final: Tensor, rows: Tensor) -> Tensor:
        """As `ReadOut.read`, with one value for each token."""
        return _tiled(weights, final, lambda logits, _: logits.log_softmax(-1))


@dataclass(frozen=True, eq=False)
class Losses:
    """Minus the log-probability of a token for each position, as of the next one [nats]."""

    tokens: Int[Tensor, "batch slot"]
    at: Int[Tensor, "batch slot"]

    @classmethod
    def of(cls, prompts: Prompts, at: Int[Tensor, "batch slot"]) -> Losses:
        """The losses of the predictions made at these positions; raises NotMeasured at the last."""
        if bool((at + 1 >= prompts.lengths[:, None]).any()):
            raise NotMeasured("after the last token of a prompt nothing follows to be predicted")
        return cls(prompts.tokens.gather(1, at + 1), at)

    @classmethod
    def of_answers(cls, prompts: Prompts) -> Losses:
        """The losses of the answers, after END."""
        if prompts.answer is None:
            raise ValueError("these prompts have no answers; use a prompt set with answers")
        return cls(prompts.answer[:, None], prompts.at("END"))

    def read(self, weights: Weights, final: Tensor, rows: Tensor) -> Tensor:
        """As `ReadOut.read`."""
        wanted = self.tokens[rows].expand(final.shape[:-1]).reshape(-1)

        def losses(logits: Tensor, part: slice) -> Tensor:
            return logits.logsumexp(-1) - logits.gather(1, wanted[part, None])[:, 0]

        return _tiled(weights, final, losses)


def read_out_of(metric: Metric, prompts: Prompts) -> ReadOut:
    """The read-out that gives a metric; raises Unsupported for one that the engine lacks."""
    if metric is logit_diff:
        return LogitDiff.of(prompts)
    if metric is answer_loss:
        return Losses.of_answers(prompts)
    name = getattr(metric, "__name__", repr(metric))
    raise Unsupported(f"the metric {name}; it knows logit_diff and answer_loss")


def _tiled(
    weights: Weights,
    final: Float[Tensor, "cell batch slot d_model"],
    of: Callable[[Float[Tensor, "row d_vocab"], slice], Tensor],
) -> Float[Tensor, "cell batch slot *rest"]:
    """Something of every row's logits, a few rows at a time."""
    flat = final.reshape(-1, final.shape[-1])
    found = [of(weights.unembed(flat[part]), part) for part in _tiles(len(flat), weights)]
    return torch.cat(found).reshape(*final.shape[:-1], *found[0].shape[1:])


def _tiles(rows: int, weights: Weights) -> Iterator[slice]:
    size = max(1, MAX_LOGITS // weights.unembed.weight.shape[1])
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
