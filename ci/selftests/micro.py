"""Micro models for the self-tests: GPT-2 with 3 layers of 2 heads, d_model 32, made in a second.

`random_model` is far from every special case (all biases and LayerNorm weights are random);
`copying_model` has one known mechanism: the heads of layer 0 attend evenly and copy what they see.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from claimlens.circuits.record import ClaimRecord
from claimlens.fixtures.default.words import VOCABULARY
from claimlens.fixtures.loading import Settings, boot

ROOT = Path(__file__).resolve().parents[2]
LAYERS, HEADS, WIDTH, CONTEXT = 3, 2, 32, 48
ROLES = {"ioi/name_mover": ["0.0", "0.1"]}


def random_model(seed: int = 0) -> Any:
    """A GPT2LMHeadModel in float64 in which every parameter is random."""
    model = _empty(len(VOCABULARY))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            is_norm = ".ln_" in name and name.endswith("weight")
            weight.copy_(1 + 0.2 * noise if is_norm else 0.25 * noise)
    return model


def copying_model() -> Any:
    """A model that raises the logit of every token it has seen, through heads L0H0 and L0H1."""
    torch.manual_seed(0)
    model = _empty(len(VOCABULARY))
    block = model.transformer.h[0].attn
    with torch.no_grad():
        model.transformer.wte.weight.normal_(std=0.2)
        block.c_attn.weight.zero_()
        block.c_attn.weight[:, 2 * WIDTH :] = torch.eye(WIDTH)
        block.c_proj.weight.copy_(2 * torch.eye(WIDTH))
    return model


def tokenizer(words: Sequence[str] = VOCABULARY) -> Any:
    """A WordLevel tokenizer without <unk>; `<|endoftext|>` is id 0."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(words)}
    backend: Any = Tokenizer(models.WordLevel(vocabulary))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    end = "<|endoftext|>"
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=backend, bos_token=end, eos_token=end, pad_token=end)


def boot_micro(model: Any, dtype: str = "float64") -> Any:
    """A bridge made as the registry makes it."""
    from transformers import AutoTokenizer

    settings = Settings(device="cpu", dtype=dtype, seed=0)
    with tempfile.TemporaryDirectory() as folder:  # TransformerLens reads it once more from disk
        tokenizer().save_pretrained(folder)
        words: Any = AutoTokenizer.from_pretrained(folder)
        return boot(model.to(settings.torch_dtype), words, "micro", settings)


@cache
def bridge(dtype: str = "float64") -> Any:
    """The bridge of `random_model()`, shared by all tests of a process: don't change it."""
    return boot_micro(random_model(), dtype)


def write_directory(
    directory: Path,
    model: Any = None,
    roles: Mapping[str, Sequence[str]] | None = None,
    words: Sequence[str] = VOCABULARY,
) -> Path:
    """A Hugging Face directory with the copying model (or another), and its roles."""
    (copying_model() if model is None else model).to(torch.float32).save_pretrained(directory)
    tokenizer(words).save_pretrained(directory)
    named = ROLES if roles is None else roles
    (directory / "roles.json").write_text(json.dumps({"schema": 1, "roles": dict(named)}))
    return directory


def logits_of(model: Any, tokens: Tensor) -> Tensor:
    """The raw model's own logits, in its own dtype: what every kernel must agree with."""
    with torch.no_grad():
        logits: Tensor = model(tokens).logits
    return logits


def _empty(vocabulary: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    make: Any = GPT2Config
    config = make(
        vocab_size=vocabulary,
        n_positions=CONTEXT,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_inner=3 * WIDTH,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        attn_implementation="eager",
    )
    network: Any = GPT2LMHeadModel
    return network(config).double().eval()


@dataclass(frozen=True)
class Run:
    """A finished `pytest` process: what it printed, how it ended, what it stored."""

    code: int
    output: str
    records: tuple[ClaimRecord, ...]
    file: Path | None

    def of(self, claim: str, model: str = "") -> list[ClaimRecord]:
        """The stored records of a claim, on one model or on all."""
        mine = [record for record in self.records if record.claim == claim]
        return [record for record in mine if not model or record.model["name"] == model]

    def letter(self, nodeid: str) -> str:
        """The word that `-v` printed beside a test."""
        lines = [line for line in self.output.splitlines() if line.startswith(f"{nodeid} ")]
        return lines[0].removeprefix(nodeid).split("[")[0].split("(")[0].strip() if lines else ""


def run_pytest(
    folder: Path, *options: str, store: Path | None = None, env: Mapping[str, str] | None = None
) -> Run:
    """Run pytest on `folder` in a process of its own, with the clone's plugins and nothing else.

    The clone is found through a link in `folder`'s parent, as an installed package would be.
    """
    from claimlens.ci.run_files import read_run

    site = folder.parent / "site"
    site.mkdir(exist_ok=True)
    if not (site / "claimlens").exists():
        (site / "claimlens").symlink_to(ROOT)
    runs = folder / "runs" if store is None else store
    known = set(runs.glob("*.jsonl")) if runs.is_dir() else set()
    plugins = ("-p", "claimlens.fixtures.plugin", "-p", "claimlens.ci.plugin")
    common = ("--import-mode=importlib", "--strict-markers", "-p", "no:cacheprovider", "--tb=short")
    places = (f"--rootdir={folder}", "-c", os.devnull, f"--claims-store={runs}")
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *common, *places, *options],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(site),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            **(env or {}),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    fresh = sorted(set(runs.glob("*.jsonl")) - known) if runs.is_dir() else []
    file = fresh[0] if fresh else None
    records = tuple(read_run(file).records) if file else ()
    return Run(finished.returncode, finished.stdout + finished.stderr, records, file)
