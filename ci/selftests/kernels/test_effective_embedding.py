"""Effective embeddings against the twin, against a run of one token, and on other models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures, micro, twin_weights
from claimlens.ci.selftests.kernels.samples import ROUNDING, TOLERANCES, agree
from claimlens.ci.selftests.twin import Twin
from claimlens.circuits.kernels import effective_embedding as embeddings
from claimlens.circuits.kernels.bridge import attention_bias, output_weights, unembedding
from claimlens.circuits.kernels.effective_embedding import (
    Variant,
    effective_embedding,
    one_token_gap,
    require_mlp0,
    source_tokens,
)
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable
from claimlens.fixtures.bench import Bench

FROM_TOKENS: tuple[Variant, ...] = ("W_E", "W_E+MLP0", "W_EE", "W_EE-W_E", "MLP0")


@pytest.mark.parametrize("variant", FROM_TOKENS)
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_every_variant(variant: Variant, dtype: str, tolerance: float, twin: Twin) -> None:
    found = effective_embedding(micro.bridge(dtype), variant)
    agree(found, twin_weights.embedded(twin, variant), tolerance)


def test_the_unembedding_is_a_variant(model: Any) -> None:
    assert torch.equal(effective_embedding(model, "W_U"), unembedding(model).T)


@pytest.mark.parametrize("variant", [*FROM_TOKENS, "W_U"])
def test_some_tokens_are_rows_of_all(variant: Variant, model: Any) -> None:
    tokens = torch.tensor([5, 3, 5])
    agree(
        effective_embedding(model, variant, tokens),
        effective_embedding(model, variant)[tokens],
        ROUNDING,
    )


def test_batches_change_nothing(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = effective_embedding(model, "W_EE")
    monkeypatch.setattr(embeddings, "BATCH", 7)
    agree(effective_embedding(model, "W_EE"), whole, ROUNDING)


def test_the_difference_is_what_layer_0_adds(model: Any) -> None:
    added = effective_embedding(model, "W_EE") - effective_embedding(model, "W_E")
    agree(effective_embedding(model, "W_EE-W_E"), added, ROUNDING)
    assert float(added.norm()) > 1


def test_the_variants_differ(model: Any) -> None:
    found = [effective_embedding(model, variant) for variant in FROM_TOKENS]
    for i, one in enumerate(found):
        assert all(float((one - other).abs().max()) > 0.01 for other in found[i + 1 :])


def test_an_mlp_that_writes_nothing_leaves_the_embedding_exactly() -> None:
    planted = Bench("planted").model
    plain = effective_embedding(planted, "W_E")
    assert torch.equal(effective_embedding(planted, "W_E+MLP0"), plain)
    with pytest.raises(NotApplicable, match="MLP0 of this model writes nothing"):
        require_mlp0(planted)


def test_an_mlp_that_writes_something_is_there(model: Any) -> None:
    require_mlp0(model)


def test_the_weights_give_what_a_run_of_one_token_gives(model: Any, names: Prompts) -> None:
    assert float(one_token_gap(model, names).max()) < 1e-12


@pytest.mark.parametrize("name", architectures.SPECIAL)
def test_so_they_do_in_other_architectures(name: str, names: Prompts) -> None:
    found = architectures.bridge(name)
    assert float(one_token_gap(found, names).max()) < 1e-9


def test_a_value_bias_may_be_folded_or_not(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our models come with b_V folded into b_O; taken out again, it changes nothing."""
    folded = effective_embedding(model, "W_EE")
    b_V, b_O = torch.ones(16).double(), attention_bias(model, 0)
    carried = sum(b_V @ output_weights(model, Head(0, index)) for index in range(micro.HEADS))
    monkeypatch.setattr(embeddings, "value_bias", lambda model, head: b_V)
    monkeypatch.setattr(embeddings, "attention_bias", lambda model, layer: b_O - carried)
    agree(effective_embedding(model, "W_EE"), folded, ROUNDING)


BROKEN: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "attention is left out": ("_self_attention0", lambda model, x: torch.zeros_like(x)),
    "MLP0 is left out": ("_mlp0", lambda model, x: torch.zeros_like(x)),
    "the bias is left out": ("attention_bias", lambda model, layer: torch.zeros(micro.WIDTH)),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_kernel_turns_the_identity_red(
    broken: str, model: Any, names: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, *BROKEN[broken])
    assert float(one_token_gap(model, names).mean()) > 0.01


def test_an_unknown_variant_names_the_known(model: Any) -> None:
    kernel: Any = effective_embedding
    with pytest.raises(ValueError, match=r"no embedding 'W_E2'; known are W_E, W_E\+MLP0"):
        kernel.__wrapped__(model, "W_E2")  # behind the shape checks


def test_the_token_asked_about_stands_at_the_end(clean: Prompts) -> None:
    last = [int(row[n - 1]) for row, n in zip(clean.tokens, clean.lengths.tolist(), strict=True)]
    assert source_tokens(clean).tolist() == last
