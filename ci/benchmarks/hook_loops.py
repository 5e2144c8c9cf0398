"""TransformerLens as a peer: its own patching functions, and loops of `run_with_hooks`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.ci.benchmarks.subject import Subject
from claimlens.ci.benchmarks.sweep import Peer
from claimlens.circuits.parts import Prompts

Hook = Callable[..., Any]
Hooks = list[tuple[str, Hook]]


def logit_diff(
    logits: Float[Tensor, "batch pos d_vocab"], prompts: Prompts
) -> Float[Tensor, " batch"]:
    """What is read from a peer's run: all prompts end at their last token [logits]."""
    rows = torch.arange(len(prompts), device=logits.device)
    return logits[rows, -1, prompts.answer] - logits[rows, -1, prompts.wrong_answer]


def cached(subject: Subject, prompts: Prompts, *endings: str) -> Any:
    """The activations of TransformerLens' own run whose names end so."""
    with torch.no_grad():
        _, found = subject.bridge.run_with_cache(
            prompts.tokens, names_filter=lambda name: name.endswith(endings)
        )
    return found


def run(subject: Subject, prompts: Prompts, hooks: Hooks) -> Float[Tensor, "batch pos d_vocab"]:
    """The logits of one run with hooks."""
    with torch.no_grad():
        logits: Tensor = subject.bridge.run_with_hooks(prompts.tokens, fwd_hooks=hooks)
    return logits


def hook_loop(subject: Subject, prompts: Prompts, hooks: Callable[[int], Hooks]) -> Peer:
    """One run per cell, with the hooks of that cell: its effect on the logit difference [logits].

    The run without hooks is made beforehand.
    """
    intact = logit_diff(run(subject, prompts, []), prompts)

    def effects(cells: Sequence[int]) -> Float[Tensor, "cell batch"]:
        runs = (run(subject, prompts, hooks(cell)) for cell in cells)
        return torch.stack([logit_diff(logits, prompts) - intact for logits in runs])

    return effects


def own_function(
    subject: Subject, name: str, activation: str, index: Callable[[int], tuple[int, ...]]
) -> Peer:
    """A function of `transformer_lens.patching`, on the cells of a table.

    `index` is a cell's row in that table: its layer, then what else the function patches by.
    """
    import pandas  # type: ignore[import-untyped]  # ships no types
    from transformer_lens import patching

    function: Any = getattr(patching, name)
    corrupted = subject.corrupted
    clean = cached(subject, subject.clean, activation)
    intact = logit_diff(run(subject, corrupted, []), corrupted)

    def effects(cells: Sequence[int]) -> Float[Tensor, "cell batch"]:
        with torch.no_grad():
            found = function(
                subject.bridge,
                corrupted.tokens,
                clean,
                lambda logits: logit_diff(logits, corrupted),
                index_axis_names=None,
                index_df=pandas.DataFrame([index(cell) for cell in cells]),
                reduce="none",
            )
        values: Tensor = found.values
        return values - intact

    return effects


def put(value: Tensor, *place: slice | int | list[int]) -> Hook:
    """A hook that overwrites a part of an activation with the same part of another run's.

    In place, as TransformerLens' own setters do.
    """

    def hook(old: Tensor, hook: object) -> Tensor:
        old[place] = value[place]
        return old

    return hook


def taken(into: dict[str, Tensor], name: str) -> Hook:
    """A hook that keeps an activation under a name."""

    def hook(value: Tensor, hook: object) -> None:
        into[name] = value

    return hook
