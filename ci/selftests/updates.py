"""Updates of a model whose effect on its findings is known: what a gate is tried on.

Each takes a directory with a GPT-2 and writes another beside it, with the roles as they were named.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import Tensor

from claimlens.circuits.parts import Head
from claimlens.fixtures.prompts.ioi import ioi_prompts
from claimlens.fixtures.tokens import Vocabulary

State = dict[str, Tensor]
KEPT = ("roles.json", "sae")
"""What an update takes over beside the weights."""


def rewritten(source: Path, target: Path, change: Callable[[State], None]) -> Path:
    """A copy of a model's directory whose weights are changed in place."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("checkpoints*", "*SUMS", "*.py"))
    file = target / "model.safetensors"
    state = load_file(file)
    change(state)
    save_file({k: v.contiguous() for k, v in state.items()}, file, metadata={"format": "pt"})
    return target


def quantised(source: Path, target: Path) -> Path:
    """Every matrix of the blocks rounded to int8, one scale for each output."""

    def round_all(state: State) -> None:
        for name, weight in state.items():
            if ".h." in name and weight.ndim == 2:
                scale = (weight.abs().amax(0, keepdim=True) / 127).clamp(min=1e-12)
                state[name] = (weight / scale).round() * scale

    return rewritten(source, target, round_all)


def pruned(source: Path, target: Path, head: Head) -> Path:
    """One head's output set to zero."""
    d_head = _d_head(source)

    def prune(state: State) -> None:
        rows = slice(head.index * d_head, (head.index + 1) * d_head)
        state[_attn(state, head.layer, "c_proj.weight")][rows] = 0

    return rewritten(source, target, prune)


def rescaled(source: Path, target: Path, seed: int) -> Path:
    """The same function: what each LayerNorm is scaled by, the matrix behind it takes back."""
    generator = torch.Generator().manual_seed(seed)

    def rescale(state: State) -> None:
        pairs = (("ln_1", "attn.c_attn"), ("ln_2", "mlp.c_fc"))
        for norm, matrix in pairs:
            for name in [n for n in state if n.endswith(f"{norm}.weight")]:
                prefix = name.removesuffix(f"{norm}.weight")
                width = len(state[name])
                factor = torch.exp2(torch.randint(-2, 3, (width,), generator=generator)).float()
                state[name] *= factor
                state[f"{prefix}{norm}.bias"] *= factor
                state[f"{prefix}{matrix}.weight"] /= factor[:, None]

    return rewritten(source, target, rescale)


def permuted(source: Path, target: Path, seed: int) -> Path:
    """The same function: the heads of each layer in another order, none where it was."""
    d_head = _d_head(source)

    def permute(state: State) -> None:
        for name in [n for n in state if n.endswith("attn.c_attn.weight")]:
            prefix = name.removesuffix("c_attn.weight")
            heads = state[name].shape[1] // (3 * d_head)
            order = _derangement(heads, seed)
            weight = rearrange(state[name], "d (part head e) -> d part head e", part=3, e=d_head)
            bias = rearrange(state[f"{prefix}c_attn.bias"], "(p h e) -> p h e", p=3, e=d_head)
            out = rearrange(state[f"{prefix}c_proj.weight"], "(head e) d -> head e d", e=d_head)
            state[name] = rearrange(weight[:, :, order], "d part head e -> d (part head e)")
            state[f"{prefix}c_attn.bias"] = rearrange(bias[:, order], "p h e -> (p h e)")
            state[f"{prefix}c_proj.weight"] = rearrange(out[order], "head e d -> (head e) d")

    return rewritten(source, target, permute)


def checkpoint(source: Path, target: Path, step: int) -> Path:
    """The model as it was at a step of its training, under the roles of its end."""
    shutil.copytree(source / "checkpoints" / f"step-{step}", target)
    for name in KEPT:
        copy = shutil.copytree if (source / name).is_dir() else shutil.copy
        copy(source / name, target / name)
    return target


def finetuned(source: Path, target: Path, seed: int, steps: int = 60) -> Path:
    """Trained on to answer with the subject in place of the indirect object."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    prompts = ioi_prompts(Vocabulary(tokenizer), 64, 10_000 + seed, torch.device("cpu")).clean
    rows, wrong = torch.arange(len(prompts)), prompts.wrong_answer
    assert wrong is not None
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        logits = model(prompts.tokens).logits[rows, prompts.lengths - 1]
        loss = torch.nn.functional.cross_entropy(logits, wrong)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        optimizer.step()
    trained = {name: value.detach() for name, value in model.state_dict().items()}

    def replace(state: State) -> None:
        for name in state:
            state[name] = trained[name]

    return rewritten(source, target, replace)


def _d_head(source: Path) -> int:
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(source)
    return int(config.n_embd // config.n_head)


def _attn(state: State, layer: int, name: str) -> str:
    return next(key for key in state if key.endswith(f"h.{layer}.attn.{name}"))


def _derangement(n: int, seed: int) -> Tensor:
    """An order of n things in which none stands where it stood."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(n, generator=generator)
        if not bool((order == torch.arange(n)).any()):
            return order
