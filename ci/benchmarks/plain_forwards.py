"""The peers that know nothing of interpretability, or of hooks by name: Hugging Face, nnsight."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.ci.benchmarks.hook_loops import logit_diff
from claimlens.ci.benchmarks.subject import Subject
from claimlens.ci.benchmarks.sweep import Peer, unravel
from claimlens.circuits.parts import Prompts

ALL = slice(None)


def forward(subject: Subject, prompts: Prompts) -> Float[Tensor, "batch pos d_vocab"]:
    """A plain forward of the raw model: what one cell costs at least, in any loop over cells."""
    with torch.no_grad():
        logits: Tensor = subject.raw()(prompts.tokens, use_cache=False).logits
    return logits


def nnsight_peers(subject: Subject, positions: Sequence[slice | int] = (ALL,)) -> dict[str, Peer]:
    """The head sweep in nnsight, one invoke per cell and one batch of all: where it is installed.

    A cell is a layer, a head, and one of `positions`.
    """
    if find_spec("nnsight") is None:
        return {}
    nnsight: Any = import_module("nnsight")
    model = nnsight.TransformersModel(
        subject.raw(), tokenizer=subject.tokenizer, task="text-generation"
    )
    layers, heads = subject.size.layers, subject.size.heads
    width = subject.size.width // heads
    blocks = model.transformer.h
    with torch.no_grad(), model.trace(subject.clean.tokens):
        clean = nnsight.save([blocks[layer].attn.c_proj.input for layer in range(layers)])
    intact = logit_diff(forward(subject, subject.corrupted), subject.corrupted)

    def effects(cells: Sequence[int]) -> Float[Tensor, "cell batch"]:
        with torch.no_grad(), model.trace() as tracer:
            runs = nnsight.save([])
            for cell in cells:
                layer, head, at = unravel(cell, (layers, heads, len(positions)))
                place = (ALL, positions[at], slice(head * width, (head + 1) * width))
                with tracer.invoke(subject.corrupted.tokens):
                    blocks[layer].attn.c_proj.input[place] = clean[layer][place]
                    runs.append(model.lm_head.output)
        return torch.stack([logit_diff(logits, subject.corrupted) - intact for logits in runs])

    return {"nnsight": effects}
