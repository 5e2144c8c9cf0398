"""Sweeps of query and key interventions, what they remember, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import ROUNDING, agree
from claimlens.circuits.engine.policy import Mode, Policy, using
from claimlens.circuits.kernels import cache as runs
from claimlens.circuits.kernels.ablate import resample_ablate, zero_ablate
from claimlens.circuits.kernels.attention import attention, attention_score
from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.kernels.query_intervention import inject
from claimlens.circuits.kernels.query_sweep import attention_readouts, sweep
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Head, PromptPairs, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

FIRST, LAST = Head(0, 1), Head(2, 0)
LOOKS = (("END", "IO"), ("END", "END"), ("S2", "IO"))


def vectors(clean: Prompts, seed: int = 0) -> Tensor:
    """A vector per prompt, about as long as the stream."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(clean), micro.WIDTH, generator=generator, dtype=torch.float64)


# --- scales and heads -----------------------------------------------------------------------------


def test_a_sweep_is_one_injection_after_another(model: Any, clean: Prompts) -> None:
    vector, scales, heads = vectors(clean), (-1.0, 0.0, 2.5), (FIRST, LAST)
    found = sweep(model, clean, heads, vector, scales, attention_readouts(["IO", "IO-S1"]))
    assert sorted(found) == ["IO", "IO-S1"]
    for i, head in enumerate(heads):
        for j, scale in enumerate(scales):
            changed = inject(model, clean, head, vector, scale)
            io, s1 = (attention(changed, clean, head, "END", src) for src in ("IO", "S1"))
            agree(found["IO"][i, j], io, ROUNDING)
            agree(found["IO-S1"][i, j], io - s1, ROUNDING)
        agree(found["IO"][i, 1], attention(model, clean, head, "END", "IO"), ROUNDING)


def test_a_sweep_reads_the_logit_difference_unless_told_otherwise(
    model: Any, clean: Prompts
) -> None:
    (found,) = sweep(model, clean, [LAST], vectors(clean), [-1, 1], norm="frozen").values()
    assert found.shape == (1, 2, len(clean))
    down = inject(model, clean, LAST, vectors(clean), -1.0, norm="frozen")
    agree(found[0, 0], logit_diff(down, clean), ROUNDING)


def test_the_way_of_a_sweep_is_that_of_its_injections(model: Any, clean: Prompts) -> None:
    vector = vectors(clean)
    found = sweep(
        model, clean, [LAST], vector, [1, 2], attention_readouts(["IO"], of="score"),
        into="key", at="IO", norm="after",
    )  # fmt: skip
    changed = inject(model, clean, LAST, vector, 2.0, into="key", at="IO", norm="after")
    agree(found["IO"][0, 1], attention_score(changed, clean, LAST, "END", "IO"), ROUNDING)


WAYS: tuple[tuple[Mode, int], ...] = (("hooks", 7), ("required", 0))
"""By hooks three and three, and the clean run that the latter start from."""


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the forward passes of a test."""
    count, plain = [0], runs._finished

    def counted(*args: Any) -> Any:
        count[0] += 1
        return plain(*args)

    monkeypatch.setattr(runs, "_finished", counted)
    return count


def test_the_readouts_of_a_sweep_share_one_run_per_head_and_scale(
    forwards: list[int], model: Any, clean: Prompts
) -> None:
    readouts = attention_readouts(["IO", "S1", "S2", "IO-S1", "BOS"])
    for mode, count in WAYS:
        forwards[0] = 0
        with using(Policy(mode=mode)):
            sweep(model, clean, [FIRST, LAST], vectors(clean), [-1, 0, 1], readouts)
        assert forwards == [count]


# --- remembering ----------------------------------------------------------------------------------


def test_injections_that_differ_in_anything_keep_their_own_numbers(
    model: Any, clean: Prompts, corrupted: Prompts
) -> None:
    vector, other = vectors(clean), vectors(clean, seed=1)

    def numbers() -> list[Tensor]:
        models: list[Model] = [
            inject(model, clean, LAST, vector),
            inject(model, clean, LAST, other),
            inject(model, clean, LAST, vector, 2.0),
            inject(model, clean, LAST, vector, norm="frozen"),
            inject(model, clean, LAST, vector, norm="after"),
            inject(model, clean, LAST, vector, into="key"),
            inject(model, clean, LAST, vector, at="S2"),
            inject(model, clean, Head(2, 1), vector),
            inject(zero_ablate(model, FIRST), clean, LAST, vector),
            inject(resample_ablate(model, FIRST, corrupted), clean, LAST, vector),
        ]
        looks = [(Head(2, i), dst, src) for i in (0, 1) for dst, src in LOOKS]
        return [torch.stack([attention_score(m, clean, *look) for look in looks]) for m in models]

    plain = numbers()
    with remembering(Memory()):
        for _ in range(2):
            for expected, found in zip(plain, numbers(), strict=True):
                assert torch.equal(expected, found)
    assert len({tuple(scores.flatten().tolist()) for scores in plain}) == 10


def test_equal_vectors_share_a_run(forwards: list[int], model: Any, clean: Prompts) -> None:
    with remembering(Memory()):
        for _ in range(3):
            logit_diff(inject(model, clean, LAST, vectors(clean)), clean)
    assert forwards == [1]


def test_shuffled_labels_are_another_run(model: Any, pairs: PromptPairs) -> None:
    mixed, vector = pairs.shuffled(0).clean, vectors(pairs.clean)
    with remembering(Memory()):
        found = [
            logit_diff(inject(model, p, LAST, vector, at="IO"), p) for p in (pairs.clean, mixed)
        ]
    plain = logit_diff(inject(model, mixed, LAST, vector, at="IO"), mixed)
    assert torch.equal(found[1], plain)
    assert not torch.equal(found[0], found[1])


# --- what is refused ------------------------------------------------------------------------------


def test_a_vector_of_zeros_changes_nothing_and_is_an_error(model: Any, clean: Prompts) -> None:
    nothing = inject(model, clean, LAST, torch.zeros_like(vectors(clean)), 3.0)
    with pytest.raises(
        NotMeasured, match="3 x vectors in the query of L2H0 at END changed nothing"
    ):
        logit_diff(nothing, clean)
    for mode, _ in WAYS:
        with using(Policy(mode=mode)), pytest.raises(NotMeasured, match="L2H0 at END changed noth"):
            sweep(model, clean, [LAST], torch.zeros_like(vectors(clean)), [0.0, 3.0])


def test_vectors_of_another_shape_are_an_error(model: Any, clean: Prompts) -> None:
    for wrong in (vectors(clean)[:, :-1], vectors(clean)[:5]):
        with pytest.raises(ValueError, match=r"expected one per prompt, \(12, 32\)"):
            inject(model, clean, LAST, wrong)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_an_error(scale: float, model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match="expected a finite number"):
        inject(model, clean, LAST, vectors(clean), scale)


def test_an_unknown_position_is_an_error(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotMeasured, match="no position 'S3' in these prompts; they label"):
        inject(model, clean, LAST, vectors(clean), at="S3")


def test_other_prompts_than_the_injection_was_made_for_are_an_error(
    model: Any, clean: Prompts
) -> None:
    changed = inject(model, clean, LAST, vectors(clean))
    with pytest.raises(NotMeasured, match="the vectors are for 12 prompts, this run has 5"):
        logit_diff(changed, clean.select(torch.arange(5)))


def test_a_head_the_model_lacks_is_not_applicable(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotApplicable, match="no head L9H9"):
        inject(model, clean, Head(9, 9), vectors(clean))


@pytest.mark.parametrize("scales", [[1.0], [], [1.0, 2.0, 1.0]], ids=["one", "none", "twice"])
def test_a_grid_that_is_none_is_an_error(scales: list[float], model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match="expected two or more, all different"):
        sweep(model, clean, [LAST], vectors(clean), scales)


def test_a_sweep_needs_heads(model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match="no heads given"):
        sweep(model, clean, [], vectors(clean), [-1, 1])
