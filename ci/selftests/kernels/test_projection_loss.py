"""The loss of a head's parts: the twin, the sum of the parts, and the ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import HEADS, ROUNDING, SOME, agree, at, rows
from claimlens.ci.selftests.twin import Twin
from claimlens.ci.selftests.twin_direct import along, logits_with, moved, output, unembeddings
from claimlens.circuits.kernels import direct, projection_loss
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.cspa import cspa_kl
from claimlens.circuits.kernels.projection_loss import (
    KEEPS,
    Keep,
    check_keep,
    loss_change,
    loss_changes,
    projected,
    projection_gap,
)
from claimlens.circuits.metrics import loss
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured
from claimlens.fixtures.bench import Bench

TRIED = [(keep, negative) for keep in KEEPS for negative in (False, True)]


def by_hand(twin: Twin, tokens: Tensor, head: Head, keep: Keep, negative: bool) -> Tensor:
    """The change of the loss of every token but the first."""
    trace, unembed = twin.run(tokens), unembeddings(twin)
    each = moved(twin, trace, at(head))
    parts = torch.stack(
        [
            along(each[src], unembed[token], negative_only=negative)
            for src, token in enumerate(tokens.tolist())
        ]
    )
    kept = {"projection": parts, "perpendicular": each - parts, "nothing": torch.zeros_like(each)}
    change = trace.pattern[at(head)] @ kept[keep] - output(twin, trace, at(head))
    after = logits_with(twin, trace, change)
    cost = torch.nn.functional.cross_entropy
    return cost(after[:-1], tokens[1:], reduction="none") - cost(
        trace.logits[:-1], tokens[1:], reduction="none"
    )


@pytest.mark.parametrize(("keep", "negative"), TRIED)
def test_the_change_of_every_tokens_loss(
    keep: Keep, negative: bool, model: Any, twin: Twin, clean: Prompts
) -> None:
    found = loss_changes(model, clean, keep, negative_only=negative)
    for row, tokens in list(enumerate(rows(clean)))[:3]:
        for head in HEADS:
            own = found[row, head.layer, head.index]
            agree(own[1 : len(tokens)], by_hand(twin, tokens, head, keep, negative))
            assert not own[0]
            assert not own[len(tokens) :].any()


def test_in_float32(twin: Twin, clean: Prompts) -> None:
    found = loss_changes(micro.bridge("float32"), clean, "projection")[0, 1, 1]
    tokens = rows(clean)[0]
    agree(found[1 : len(tokens)], by_hand(twin, tokens, SOME, "projection", False), 1e-4)


@pytest.mark.parametrize("keep", KEEPS)
def test_one_head_is_the_mean_over_its_tokens(keep: Keep, model: Any, clean: Prompts) -> None:
    every = loss_changes(model, clean, keep)[:, SOME.layer, SOME.index]
    predicted = clean.lengths - 1
    agree(loss_change(model, clean, SOME, keep), every.sum(1) / predicted, ROUNDING)
    size = loss_change(model, clean, SOME, keep, size=True)
    agree(size, every.abs().sum(1) / predicted, ROUNDING)
    s2 = clean.at("S2")
    agree(loss_change(model, clean, SOME, keep, at="S2"), every.gather(1, s2)[:, 0], ROUNDING)


def test_proportional_changes_are_shares_of_each_tokens_clean_loss(
    model: Any, clean: Prompts
) -> None:
    absolute = loss_changes(model, clean, "nothing")
    shares = loss_changes(model, clean, "nothing", proportional=True)
    s2 = clean.at("S2")[:, None, None].expand(-1, 3, 2, 1)
    clean_loss = loss(model, clean, "S2")[:, None, None]
    agree(shares.gather(-1, s2)[..., 0], absolute.gather(-1, s2)[..., 0] / clean_loss, ROUNDING)
    assert bool(torch.isfinite(shares).all())


@pytest.mark.parametrize("least", [0.0, projection_loss.MIN_LOSS / 2])
def test_a_share_of_a_loss_that_is_none_is_not_measured(
    least: float, model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that the model is sure of is exactly 0: the share was infinite, or not a number."""
    plain = projection_loss.clean_losses

    def sure(run: direct.DirectRun, dst: Tensor) -> Tensor:
        losses = plain(run, dst)
        losses[0, 3] = least
        return losses

    monkeypatch.setattr(projection_loss, "clean_losses", sure)
    loss_changes(model, clean, "nothing")  # the change itself has no such limit
    with pytest.raises(NotMeasured, match=r"^1 tokens have a clean loss below 0.0001 nats"):
        loss_changes(model, clean, "nothing", proportional=True)


def test_a_loss_of_padding_is_no_divisor(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = projection_loss.clean_losses
    padding = torch.arange(clean.tokens.shape[1] - 1) >= clean.lengths[:, None] - 1
    assert bool(padding.any())
    monkeypatch.setattr(
        projection_loss, "clean_losses", lambda r, d: plain(r, d).masked_fill(padding, 0.0)
    )
    found = loss_changes(model, clean, "nothing", proportional=True)
    assert bool(torch.isfinite(found).all())


def test_the_parts_of_a_vector() -> None:
    vectors = torch.tensor([[3.0, 4.0], [-3.0, 4.0], [1.0, 1.0]])
    directions = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    assert projected(vectors, directions).tolist() == [[3.0, 0.0], [-3.0, 0.0], [0.0, 0.0]]
    assert projected(vectors, directions, True).tolist() == [[0.0, 0.0], [-3.0, 0.0], [0.0, 0.0]]


def test_a_model_whose_head_is_silent_loses_nothing_by_it(model: Any, clean: Prompts) -> None:
    silent = zero_ablate(model, SOME)
    assert not loss_change(silent, clean, SOME, "nothing").any()
    assert float(loss_change(model, clean, SOME, "nothing").abs().min()) > 1e-4


@pytest.mark.parametrize("negative", [False, True])
def test_the_changes_of_the_parts_add_up(negative: bool, model: Any, clean: Prompts) -> None:
    gap = projection_gap(model, clean, negative_only=negative)
    assert gap.shape == (len(clean),)
    assert float(gap.max()) < ROUNDING
    assert float(projection_gap(model, clean, at="END").max()) < ROUNDING


def test_with_another_heads_values_they_don_t(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "value_head", lambda model, head: 1 - head.index)
    assert float(projection_gap(model, clean).min()) > 0.1


def test_nor_where_a_source_is_left_out(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: direct.DirectRun, head: Head) -> Tensor:
        pattern = self.cache[f"blocks.{head.layer}.attn.hook_pattern"][:, head.index].clone()
        pattern[:, :, 0] = 0.0
        return pattern

    monkeypatch.setattr(direct.DirectRun, "pattern", cut)
    assert float(projection_gap(model, clean).min()) > 0.1


def test_few_logits_at_a_time_are_the_same(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loss_changes(model, clean, "projection")
    monkeypatch.setattr(direct, "MAX_LOGITS", 1)
    agree(loss_changes(model, clean, "projection"), whole, ROUNDING)


def test_one_forward_pass_does_for_all_heads(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Any] = []
    forward = model.run_with_hooks

    def counted(*args: Any, **kwargs: Any) -> Any:
        runs.append(args)
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "run_with_hooks", counted)
    loss_changes(model, clean, "projection")
    assert len(runs) == 1


def test_nothing_predicts_the_first_token_and_keep_is_one_of_three(
    model: Any, clean: Prompts
) -> None:
    with pytest.raises(ValueError, match="includes the first token"):
        loss_change(model, clean, SOME, "nothing", at="BOS")
    with pytest.raises(ValueError, match="expected one of projection, perpendicular, nothing"):
        check_keep("everything")


def test_in_a_coarse_dtype_the_parts_are_worked_out_in_float32() -> None:
    bench = Bench("planted", dtype="bfloat16")
    text, head = bench.text(6).clean, Head(3, 0)
    changes = loss_changes(bench.model, text, "nothing")
    assert changes.dtype == torch.float32
    fine = Bench("planted").model
    for kernel in (loss_change, cspa_kl):
        coarse = kernel(bench.model, text, head, "nothing")
        agree(coarse, kernel(fine, text, head, "nothing").double(), 0.1)


# --- other architectures --------------------------------------------------------------------------


def other(name: str) -> Any:
    """A small model of another architecture, with random weights."""
    import transformers

    from claimlens.fixtures.default.words import VOCABULARY

    common = {"vocab_size": len(VOCABULARY), "hidden_size": 32, "intermediate_size": 48}
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 48}
    special = {
        "Llama": {"num_key_value_heads": 2},
        "GPTNeoX": {},
        "Gemma2": {"num_key_value_heads": 2, "head_dim": 8},
    }[name]
    config = getattr(transformers, f"{name}Config")(
        **common, **sizes, **special, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    return micro.boot_micro(getattr(transformers, f"{name}ForCausalLM")(config).double().eval())


@pytest.mark.parametrize("name", ["Llama", "GPTNeoX"])
def test_the_parts_add_up_in_other_architectures(name: str, clean: Prompts) -> None:
    found = other(name)
    assert float(projection_gap(found, clean).max()) < 1e-6
    assert float(loss_changes(found, clean, "nothing").abs().max()) > 1e-4


def test_where_outputs_are_normalised_it_is_not_applicable(clean: Prompts) -> None:
    with pytest.raises(NotApplicable, match="is normalised together with the other heads"):
        loss_change(other("Gemma2"), clean, Head(0, 0), "nothing")
