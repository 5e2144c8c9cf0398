"""The demo's sentences on models that know their words: random ones, and ones told what to say.

No shipped model knows these words, so without this nobody would have seen the claims run. A told
model gives one distribution after any text, through the bias of its final norm.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.processes import ROOT
from claimlens.ci.selftests.suite import run_suite

SENTENCES = import_module("claimlens.claims.demo.test_sentences")
CAT = "The cat sat on the mat."
TEXTS = (SENTENCES.ABSTRACT, SENTENCES.DESCRIPTION, SENTENCES.CLAIRE, SENTENCES.SARAH, CAT)
IOI = SENTENCES.IOI.format("John")
PIECE = r"\w+|[^\w\s]+"
WIDTH, HEADS, CONTEXT = 32, 16, 192
Verdicts = dict[str, dict[str, str]]


def words_of(*texts: str) -> list[str]:
    """The words of texts as the micro tokenizer cuts them, each once."""
    return list(dict.fromkeys(word for text in texts for word in re.findall(PIECE, text)))


def network(size: int) -> Any:
    """A GPT-2 with enough heads and positions for the sentences; every parameter is random."""
    from transformers import GPT2Config, GPT2LMHeadModel

    make: Any = GPT2Config
    config = make(
        vocab_size=size,
        n_positions=CONTEXT,
        n_embd=WIDTH,
        n_layer=2,
        n_head=HEADS,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    build: Any = GPT2LMHeadModel
    model = build(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


def told(words: Sequence[str], logits: Mapping[str, float], rest: float = 0.0) -> Any:
    """A model with these logits after any text; `rest` is that of every other word."""
    model = network(len(words))
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(torch.eye(WIDTH)[0])
        model.transformer.wte.weight[:, 0] = torch.tensor([logits.get(w, rest) for w in words])
    return model


def at_cost(text: str, nats: float) -> dict[str, float]:
    """Probabilities of a text's words, as often as they occur in it, at which it costs so much per
    token; the rest is left to other words."""
    counts = Counter(re.findall(PIECE, text))
    size = counts.total()
    entropy = -sum(n / size * math.log(n / size) for n in counts.values())
    return {word: math.exp(entropy - nats) * n / size for word, n in counts.items()}


def say(words: Sequence[str], shares: Mapping[str, float]) -> dict[str, float]:
    """Logits that give these words these probabilities, and the others the rest evenly."""
    left = (1 - sum(shares.values())) / (len(words) - len(shares))
    return {word: math.log(share / left) for word, share in shares.items()}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """By model and claim."""
    folder = tmp_path_factory.mktemp("told")
    whole = ["<|endoftext|>", *words_of(*TEXTS, IOI)]
    shares = {"Sarah": 0.4679, "Arthur": 0.1415, "The": 0.1198}
    names = {"John": 2.8995, "Mary": 1.6034}
    rest = -sum(names.values()) / (len(whole) - 2)  # a bias is over the vocabulary's mean
    models = {
        "random": network(len(whole)),
        "next": told(whole, say(whole, shares)),
        "bias": told(whole, names, rest),
        "abstract": told(whole, say(whole, at_cost(SENTENCES.ABSTRACT, 3.999))),
    }
    for name, model in models.items():
        micro.write_directory(folder / name, model, {}, whole)
    paths = [str(folder / name) for name in models]
    records = run_suite(paths, folder / "runs", "-k", "test_sentences or names_of_the_demo")
    found: Verdicts = {name: {} for name in models}
    for record in records:
        found[Path(record.model["name"]).name][record.claim] = record.verdict
    return found


PUBLISHED = (
    "demo/loss-of-the-abstract",
    "demo/loss-of-the-description",
    "demo/loss-without-head-values",
    "demo/the-after-the-mat",
    "demo/sarah",
    "demo/claire-with-and-without-bos",
    "weights/bias-of-john-and-mary",
)


@pytest.mark.parametrize("claim", PUBLISHED)
def test_with_their_words_every_sentence_is_measured(claim: str, verdicts: Verdicts) -> None:
    assert verdicts["random"][claim] == "refuted"


@pytest.mark.parametrize(
    ("model", "claim"),
    [
        ("next", "demo/sarah"),
        ("next", "demo/the-after-the-mat"),
        ("bias", "weights/bias-of-john-and-mary"),
        ("abstract", "demo/loss-of-the-abstract"),
    ],
)
def test_a_model_that_says_what_is_published_is_believed(
    model: str, claim: str, verdicts: Verdicts
) -> None:
    assert verdicts[model][claim] == "holds"


def test_a_bias_turned_round_favours_rare_words(tmp_path: Path) -> None:
    """The embedded default with the bias of its final norm negated."""
    turned = tmp_path / "turned"
    turned.mkdir()
    for file in (ROOT / "fixtures" / "default").glob("*.json"):
        (turned / file.name).write_bytes(file.read_bytes())
    weights = load_file(ROOT / "fixtures" / "default" / "model.safetensors")
    name = next(name for name in weights if name.endswith("ln_f.bias"))
    weights[name] = -weights[name]
    save_file(weights, turned / "model.safetensors", {"format": "pt"})
    records = run_suite([str(turned)], tmp_path / "runs", "-k", "unembedding_bias and not names")
    found = {record.claim: record.verdict for record in records}
    assert found["weights/bias-favours-frequent-words"] == "refuted"
    assert found["weights/bias-follows-frequency"] == "refuted"
