"""What is measured on: a model of GPT-2's shape with random weights, prompts, and an SAE.

LayerNorm's weights, all biases and the sharpness of attention are random too: in a model fresh from
its initialisation they are ones and zeros, attention is nearly even, and half of what a sweep
computes would be too small for a comparison to see.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.kernels.sae import Sae
from claimlens.circuits.parts import Prompts
from claimlens.fixtures.loading import Settings, boot, make_deterministic, quiet_libraries

BOS = 0
SEED = 20221101
SHARPER, LOUDER = 3.0, 4.0
"""Factors on queries and keys, and on what heads and MLPs write."""


@dataclass(frozen=True)
class Size:
    """The shape of a model and of its prompts."""

    batch: int
    tokens: int
    layers: int = 12
    width: int = 768
    heads: int = 12
    vocabulary: int = 50257

    @property
    def prompts(self) -> str:
        """Such as `10 x 15`."""
        return f"{self.batch} x {self.tokens}"


TINY = Size(batch=3, tokens=10, layers=2, width=32, heads=2, vocabulary=300)


@dataclass(frozen=True, eq=False)
class Subject:
    """A processed bridge, pairs of prompts, and the raw model of the same weights.

    `raw` makes that one when it is first asked for: our own sweeps do without.
    """

    size: Size
    bridge: Any
    raw: Callable[[], Any]
    tokenizer: Any
    clean: Prompts
    corrupted: Prompts

    def fits(self, size: Size) -> bool:
        """Whether this model has the shape that a size asks for."""
        return replace(size, batch=self.size.batch, tokens=self.size.tokens) == self.size

    def of(self, size: Size) -> Subject:
        """The same model with prompts of another number and length."""
        clean, corrupted = prompt_pair(size)
        device = self.clean.tokens.device
        return replace(self, size=size, clean=clean.to(device), corrupted=corrupted.to(device))

    @cached_property
    def sae(self) -> Sae:
        """A random SAE on the stream before a layer at two thirds of the depth."""
        hook = f"blocks.{2 * self.size.layers // 3}.hook_resid_pre"
        return random_sae(hook, self.size.width, self.clean.tokens.device)


def make(size: Size, device: str = "cpu") -> Subject:
    """A model and its prompts, the same for the same size; booted as every model of claimlens."""
    quiet_libraries()
    make_deterministic()
    settings = Settings(device=device, dtype="float32", seed=SEED)
    with tempfile.TemporaryDirectory() as folder:  # TransformerLens reads it once more from disk
        words = tokenizer(folder)
        bridge = boot(random_gpt2(size), words, "random-gpt2", settings)
    clean, corrupted = prompt_pair(size)
    where = torch.device(device)
    raw = cache(lambda: random_gpt2(size, "sdpa").to(device))
    return Subject(size, bridge, raw, words, clean.to(where), corrupted.to(where))


def random_gpt2(size: Size, attention: str = "eager") -> Any:
    """A GPT2LMHeadModel with random weights in which no term is nearly zero.

    Only eager attention computes the pattern that hooks read; for a plain forward take "sdpa".
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    make_config: Any = GPT2Config
    config = make_config(
        vocab_size=size.vocabulary,
        n_embd=size.width,
        n_layer=size.layers,
        n_head=size.heads,
        bos_token_id=BOS,
        eos_token_id=BOS,
        attn_implementation=attention,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network: Any = GPT2LMHeadModel
        model = network(config).eval()
    generator = torch.Generator().manual_seed(SEED + 1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            _enliven(name, weight, generator)
    return model


def tokenizer(folder: str) -> Any:
    """A tokenizer of three words: loading asks for one, and no prompt here is made of text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    end = "<|endoftext|>"
    backend: Any = Tokenizer(models.WordLevel({end: BOS, "a": 1, "b": 2}))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    make_fast: Any = PreTrainedTokenizerFast
    made = make_fast(tokenizer_object=backend, bos_token=end, eos_token=end, pad_token=end)
    made.save_pretrained(folder)
    read: Any = AutoTokenizer.from_pretrained(folder)
    return read


def prompt_pair(size: Size) -> tuple[Prompts, Prompts]:
    """Clean and corrupted prompts of random tokens, which differ in four places from S1 on.

    Where names stand in a prompt of the IOI task: the first difference is the third token.
    """
    generator = torch.Generator().manual_seed(SEED + size.batch * 1000 + size.tokens)
    shape = (size.batch, size.tokens)
    clean = torch.randint(1, size.vocabulary, shape, generator=generator)
    clean[:, 0] = BOS
    corrupted = clean.clone()
    places = {"S1": 2, "IO": 4, "S1+": 2 * size.tokens // 3, "S2": size.tokens - 3}
    for place in places.values():
        corrupted[:, place] = _others(clean[:, place], size.vocabulary, generator)
    places |= {"BOS": 0, "END": size.tokens - 1}
    labels = {n: torch.full((size.batch, 1), at) for n, at in places.items() if n.isalnum()}
    answer, wrong = torch.randint(1, size.vocabulary, (2, size.batch), generator=generator)
    lengths = torch.full((size.batch,), size.tokens)
    named = ("random",) * size.batch
    first = Prompts(clean, lengths, labels, named, answer, wrong)
    return first, replace(first, tokens=corrupted)


def random_sae(hook: str, width: int, device: torch.device, times: int = 32) -> Sae:
    """A ReLU autoencoder of `times` the width; the same on every device."""
    generator = torch.Generator().manual_seed(SEED + 2)
    size = times * width
    drawn = torch.randn(size, width, generator=generator)
    decoder = torch.nn.functional.normalize(drawn, dim=1).to(device)
    bias = torch.randn(size, generator=generator).to(device)
    nothing = torch.zeros(width, device=device)
    return Sae(hook, "standard", decoder.T.clone(), decoder, nothing, b_enc=bias)


def _enliven(name: str, weight: Float[Tensor, "*shape"], generator: torch.Generator) -> None:
    noise = torch.randn(weight.shape, generator=generator)
    if name.endswith("bias"):
        weight.copy_(0.1 * noise)
    elif ".ln_" in name:
        weight.copy_(1 + 0.3 * noise)
    elif "c_attn" in name:
        weight.mul_(SHARPER)
    elif "c_proj" in name:
        weight.mul_(LOUDER)
    elif "wte" in name:
        weight.mul_(SHARPER)


def _others(
    tokens: Int[Tensor, " batch"], vocabulary: int, generator: torch.Generator
) -> Int[Tensor, " batch"]:
    """Other tokens than these, and not BOS."""
    step = torch.randint(1, vocabulary - 1, tokens.shape, generator=generator)
    return (tokens - 1 + step) % (vocabulary - 1) + 1
