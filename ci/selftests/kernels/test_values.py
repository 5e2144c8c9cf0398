"""Values of heads set to zero: against the twin, equal to z at zero, and where heads share them."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
import torch

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import HEADS, SOME, agree, at, diff, rows
from claimlens.ci.selftests.twin import Twin
from claimlens.circuits.kernels.ablate import zero_ablate, zero_values
from claimlens.circuits.kernels.cache import cache
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured


@pytest.mark.parametrize("heads", [[SOME], HEADS], ids=["L1H1", "all"])
def test_values_at_zero(heads: list[Head], model: Any, twin: Twin, clean: Prompts) -> None:
    """Processing moves the value bias behind W_O, where it stays."""
    changes = {at(head): (lambda z, h=head: twin.b_v(at(h)).expand_as(z)) for head in heads}
    expected = [
        diff(twin.run(tokens, changes), clean, row) for row, tokens in enumerate(rows(clean))
    ]
    agree(logit_diff(zero_values(model, heads), clean), expected)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_values_at_zero_are_z_at_zero(head: Head, model: Any, clean: Prompts) -> None:
    by_values = cache(zero_values(model, head), clean).logits
    assert torch.equal(by_values, cache(zero_ablate(model, head), clean).logits)
    assert not torch.equal(by_values, cache(model, clean).logits)


def test_no_values_at_zero_is_the_clean_run(model: Any, clean: Prompts) -> None:
    assert torch.equal(cache(zero_values(model, []), clean).logits, cache(model, clean).logits)


def test_it_agrees_with_a_hook_on_the_values(model: Any, clean: Prompts) -> None:
    """The hook of the demo, written out."""

    def hook(value: torch.Tensor, hook: object) -> torch.Tensor:
        value = value.clone()
        value[:, :, SOME.index] = 0
        return value

    name = f"blocks.{SOME.layer}.attn.hook_v"
    with torch.no_grad():
        theirs = model.run_with_hooks(clean.tokens, fwd_hooks=[(name, hook)])
    assert torch.equal(cache(zero_values(model, SOME), clean).logits, theirs)


def test_twice_is_an_error(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotMeasured, match="zero ablation of values 1 of layer 1 changed nothing"):
        logit_diff(zero_values(zero_values(model, SOME), SOME), clean)


def test_a_head_that_is_not_there_is_not_applicable(model: Any) -> None:
    with pytest.raises(NotApplicable, match="no head L0H8"):
        zero_values(model, Head(0, 8))


# --- grouped heads --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grouped() -> Any:
    """A Llama of 2 layers, 4 query heads and 2 heads of keys and values."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from claimlens.fixtures.default.words import VOCABULARY
    from claimlens.fixtures.loading import Settings, boot

    make: Any = LlamaConfig
    config = make(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=48,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    network: Any = LlamaForCausalLM
    with tempfile.TemporaryDirectory() as folder:
        micro.tokenizer().save_pretrained(folder)
        words: Any = AutoTokenizer.from_pretrained(folder)
        settings = Settings(device="cpu", dtype="float64", seed=0)
        return boot(network(config).double(), words, "grouped", settings)


def test_part_of_a_group_is_not_applicable_and_says_who_shares(grouped: Any) -> None:
    with pytest.raises(NotApplicable, match=r"L0H2, L0H3 share their values.*without L0H3; name"):
        zero_values(grouped, Head(0, 2))


def test_a_whole_group_is_its_heads_at_zero(grouped: Any, clean: Prompts) -> None:
    group = [Head(0, 2), Head(0, 3)]
    by_values = cache(zero_values(grouped, group), clean).logits
    assert torch.equal(by_values, cache(zero_ablate(grouped, group), clean).logits)
    assert not torch.equal(by_values, cache(zero_ablate(grouped, group[:1]), clean).logits)
