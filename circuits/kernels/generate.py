"""A short continuation, sampled or greedy: the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.kernels.cache import Model, intact
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.metrics import end_logits
from claimlens.circuits.parts import Prompts


@dataclass(frozen=True)
class Continuation:
    """What was generated: token ids and their text, piece by piece."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        """The pieces in a row."""
        return "".join(self.pieces)


def continue_text(
    model: Model,
    ids: Sequence[int],
    decode: Callable[[list[int]], str],
    length: int = 20,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    bos: int | None = None,
) -> Continuation:
    """One prompt's continuation, for a report; `decode` is the tokenizer's.

    With `bos` that token is put before the prompt. Raises ValueError as `generate`, for an empty
    prompt, and where the prompt begins with BOS already.
    """
    if bos is not None and list(ids[:1]) == [bos]:
        raise ValueError(f"the prompt begins with BOS ({bos}) already; leave bos out")
    whole = list(ids) if bos is None else [bos, *ids]
    if not whole:
        raise ValueError("an empty prompt has nothing to continue; give bos")
    device = torch.device(intact(model).cfg.device)
    end = torch.tensor([[len(whole) - 1]])
    prompts = Prompts(torch.tensor([whole]), end[:, 0] + 1, {"END": end}, ("continuation",))
    found = generate(model, prompts.to(device), length, temperature=temperature, seed=seed)
    told = found[0].tolist()
    return Continuation(tuple(told), tuple(decode([token]) for token in told))


def generate(
    model: Model, prompts: Prompts, length: int, *, temperature: float = 1.0, seed: int = 0
) -> Int[Tensor, "batch new"]:
    """`length` tokens after END of every prompt (seed 002, model.generate).

    Sampled from softmax(logits / temperature), or at temperature 0 the likeliest. Every prompt has
    a random state of its own, so that a larger set begins with the smaller one. No token ends a
    prompt early. One forward pass per token. Raises ValueError where the context is too short for
    it, for no length, and for a negative temperature.
    """
    _check(model, prompts, length, temperature)
    states = [torch.Generator().manual_seed((seed << 20) + row) for row in range(len(prompts))]
    told: list[Tensor] = []
    with remembering(Memory(max_bytes=0)):  # nobody asks for these runs again
        for _ in range(length):
            told.append(_next(end_logits(model, prompts), temperature, states))
            prompts = _longer(prompts, told[-1])
    return torch.stack(told, dim=1)


def without_last(prompts: Prompts, n: int) -> Prompts:
    """The prompts without their last `n` tokens, to be continued; of the labels END is left.

    Raises ValueError where a prompt is too short for it.
    """
    if not 0 <= n < int(prompts.lengths.min()):
        raise ValueError(
            f"cannot leave out {n} tokens: the shortest prompt has {int(prompts.lengths.min())}"
        )
    lengths = prompts.lengths - n
    return replace(
        prompts,
        tokens=prompts.tokens[:, : int(lengths.max())],
        lengths=lengths,
        positions={"END": lengths[:, None] - 1},
        moved=None,
    )


def _next(
    logits: Float[Tensor, "batch d_vocab"], temperature: float, states: Sequence[torch.Generator]
) -> Int[Tensor, " batch"]:
    if temperature == 0:
        return logits.argmax(1)
    likely = (logits.to("cpu", torch.float64) / temperature).softmax(1)
    drawn = [torch.multinomial(row, 1, generator=g) for row, g in zip(likely, states, strict=True)]
    return torch.cat(drawn).to(logits.device)


def _longer(prompts: Prompts, new: Int[Tensor, " batch"]) -> Prompts:
    """The prompts with one more token each, after its last."""
    room = torch.zeros_like(prompts.tokens[:, :1])
    full = int(prompts.lengths.max()) == prompts.tokens.shape[1]
    tokens = torch.cat([prompts.tokens, room], dim=1) if full else prompts.tokens
    tokens = tokens.scatter(1, prompts.lengths[:, None], new[:, None])
    lengths = prompts.lengths + 1
    positions = {"END": lengths[:, None] - 1}
    return replace(prompts, tokens=tokens, lengths=lengths, positions=positions, moved=None)


def _check(model: Model, prompts: Prompts, length: int, temperature: float) -> None:
    if length < 1 or not temperature >= 0:
        raise ValueError(
            f"length={length}, temperature={temperature:g}: expected at least one token and a "
            "temperature of 0 (greedy) or more"
        )
    context, longest = int(intact(model).cfg.n_ctx), int(prompts.lengths.max())
    if longest + length - 1 > context:
        raise ValueError(
            f"{longest} tokens and {length} more do not fit into the model's context of {context}; "
            f"generate at most {max(context - longest + 1, 0)}"
        )
