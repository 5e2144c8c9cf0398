"""Attribution over all components against the twin, TransformerLens and other architectures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import architectures, micro
from claimlens.ci.selftests.kernels.samples import (
    FOLDED,
    HEADS,
    ROUNDING,
    TOLERANCES,
    agree,
    at,
    rows,
    traces,
)
from claimlens.ci.selftests.twin import Trace, Twin
from claimlens.circuits.kernels import decomposition
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.attribution import attribute
from claimlens.circuits.kernels.cache import Edit, edited
from claimlens.circuits.kernels.decomposition import decompose, residual_parts
from claimlens.circuits.metrics import answer_tokens, end_logits, logit_diff
from claimlens.circuits.parts import Position, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

LABELS = (
    *("embed", "pos_embed", "L0H0", "L0H1", "MLP0", "L1H0", "L1H1", "MLP1"),
    *("L2H0", "L2H1", "MLP2", "attention bias", "unembed bias"),
)


def written(twin: Twin, trace: Trace, tokens: Tensor) -> dict[str, Tensor]:
    """What every component writes at the last position, from the raw weights."""
    w, last = twin.weights, len(tokens) - 1
    parts = {
        "embed": w["transformer.wte.weight"][tokens[last]],
        "pos_embed": w["transformer.wpe.weight"][last],
    }
    bias = torch.zeros(micro.WIDTH).double()
    for layer in range(micro.LAYERS):
        bias = bias + w[f"transformer.h.{layer}.attn.c_proj.bias"]
        parts[f"MLP{layer}"] = trace.mlp_out[layer][last]
    for head in HEADS:
        parts[str(head)] = (trace.z[at(head)][last] - twin.b_v(at(head))) @ twin.w_o(at(head))
        bias = bias + twin.b_v(at(head)) @ twin.w_o(at(head))
    return {**parts, "attention bias": bias}


def direct(twin: Twin, trace: Trace, tokens: Tensor, answer: int) -> dict[str, Tensor]:
    """Each component's direct effect on a token's logit, and the final norm's bias."""
    scale = trace.final_scale[-1]
    parts = {n: twin.direct(x, scale, answer) for n, x in written(twin, trace, tokens).items()}
    unembed = twin.weights["lm_head.weight"]
    bias = twin.weights["transformer.ln_f.bias"] @ (unembed[answer] - unembed.mean(0))
    return {**parts, "unembed bias": bias}


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_every_component_agrees_with_the_twin(
    dtype: str, tolerance: float, twin: Twin, clean: Prompts
) -> None:
    answers, wrongs = (ids.tolist() for ids in answer_tokens(clean))
    to_answer, to_difference = [], []
    for trace, tokens, answer, wrong in zip(
        traces(twin, clean), rows(clean), answers, wrongs, strict=True
    ):
        right, other = (direct(twin, trace, tokens, token) for token in (answer, wrong))
        to_answer.append(torch.stack([right[name] for name in LABELS]))
        to_difference.append(torch.stack([right[name] - other[name] for name in LABELS]))
    bridge = micro.bridge(dtype)
    found = decompose(bridge, clean)
    assert found.labels == LABELS
    agree(found.values, to_answer, tolerance)
    agree(decompose(bridge, clean, "logit_diff").values, to_difference, tolerance)


def test_the_parts_sum_to_the_logit(model: Any, clean: Prompts) -> None:
    answer, _ = answer_tokens(clean)
    logits = end_logits(model, clean).gather(1, answer[:, None])[:, 0]
    agree(decompose(model, clean).total, logits, ROUNDING)
    agree(decompose(model, clean, "logit_diff").total, logit_diff(model, clean), ROUNDING)


def test_it_agrees_with_transformer_lens(model: Any, clean: Prompts) -> None:
    answer, wrong = answer_tokens(clean)
    found = decompose(model, clean, "logit_diff")
    for row, tokens in enumerate(rows(clean)[:4]):
        _, stored = model.run_with_cache(tokens[None])
        theirs, labels = stored.get_full_resid_decomposition(
            layer=-1, expand_neurons=False, return_labels=True, pos_slice=-1
        )
        effects = stored.logit_attrs(
            theirs, answer[row : row + 1], incorrect_tokens=wrong[row : row + 1], pos_slice=-1
        )
        expected = dict(zip(labels, effects[:, 0].detach(), strict=True))
        for label, value in zip(found.labels, found.values[row], strict=True):
            if label != "unembed bias":  # TransformerLens leaves it out
                agree(value, expected[their_label(label)], FOLDED)
        agree(residual_parts(model, clean)[1][row].sum(0), theirs.sum(0)[0].detach(), FOLDED)


def their_label(label: str) -> str:
    return {"attention bias": "bias"}.get(
        label, f"{label[3:]}_mlp_out" if label.startswith("MLP") else label
    )


def test_a_head_is_attributed_as_alone(model: Any, clean: Prompts) -> None:
    found = decompose(model, clean, "logit_diff")
    for head in HEADS:
        agree(found.of(str(head)), attribute(model, clean, head, "logit_diff"), ROUNDING)


def test_an_ablated_head_adds_nothing_and_the_rest_still_sums(model: Any, clean: Prompts) -> None:
    without = zero_ablate(model, HEADS[3])
    found = decompose(without, clean, "logit_diff")
    assert not bool(found.of(str(HEADS[3])).any())
    agree(found.total, logit_diff(without, clean), ROUNDING)


def test_other_positions(model: Any, twin: Twin, clean: Prompts) -> None:
    answers = answer_tokens(clean)[0].tolist()
    places = clean.at("S2")[:, 0].tolist()
    expected = []
    for tokens, place, answer in zip(rows(clean), places, answers, strict=True):
        logits = twin.run(tokens).logits[place]
        expected.append(logits[answer] - logits.mean())
    agree(decompose(model, clean, at="S2").total, expected)


# --- red cases -----------------------------------------------------------------------------------


def test_a_part_left_out_is_noticed(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_positions(*given: Any) -> tuple[tuple[str, ...], Tensor]:
        labels, parts = residual_parts(*given)
        return (labels[0], *labels[2:]), torch.cat([parts[:, :1], parts[:, 2:]], 1)

    monkeypatch.setattr(decomposition, "residual_parts", without_positions)
    with pytest.raises(NotMeasured, match="add up to something else than the logit"):
        decompose(model, clean)


def test_a_scale_that_is_not_the_runs_is_noticed(
    model: Any, clean: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decomposition, "FINAL_SCALE", "blocks.2.ln2.hook_scale")
    with pytest.raises(NotMeasured, match="add up to something else than the logit"):
        decompose(model, clean)


def test_an_edit_of_the_stream_itself_is_no_component(model: Any, clean: Prompts) -> None:
    doubled = edited(model, Edit("blocks.1.hook_resid_pre", lambda x: 2 * x, "twice the stream"))
    with pytest.raises(NotMeasured, match="An edit of the residual stream itself"):
        decompose(doubled, clean)


def test_prompts_without_answers_are_refused(model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match="no answers"):
        decompose(model, replace(clean, answer=None))
    with pytest.raises(ValueError, match="no wrong answers"):
        decompose(model, replace(clean, wrong_answer=None), "logit_diff")
    agree(
        decompose(model, replace(clean, wrong_answer=None)).total,
        decompose(model, clean).total,
        ROUNDING,
    )


def test_a_label_of_many_positions_is_refused(model: Any, repeated: Prompts) -> None:
    answered = replace(repeated, answer=repeated.tokens[:, 1])
    with pytest.raises(ValueError, match="stands for"):
        decompose(model, answered, at="REPEAT")
    assert decompose(model, answered, at=Position("END", -1)).total.shape == (len(repeated),)


# --- other architectures -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GPT2", "Llama", "GPTNeoX"])
def test_other_architectures_sum_to_the_raw_models_logit(name: str, clean: Prompts) -> None:
    answer, wrong = answer_tokens(clean)
    raw = architectures.raw(name)
    expected = []
    for tokens, right, other in zip(rows(clean), answer, wrong, strict=True):
        logits = micro.logits_of(raw, tokens[None])[0, -1]
        expected.append(logits[right] - logits[other])
    found = decompose(architectures.bridge(name), clean, "logit_diff")
    agree(found.total, expected, 2e-5)
    assert ("pos_embed" in found.labels) == (name == "GPT2")


def test_capped_logits_are_not_applicable(clean: Prompts) -> None:
    with pytest.raises(NotApplicable, match="normalised together"):
        decompose(architectures.bridge("Gemma2"), clean)
