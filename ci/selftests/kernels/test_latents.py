"""What latents do: ablations against the twin, and the table that they make."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro, twin_sae
from claimlens.ci.selftests.kernels.samples import ROUNDING, agree, answers_of, rows, traces
from claimlens.ci.selftests.twin import Twin
from claimlens.ci.selftests.twin_latents import site_of
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.figures import Figure
from claimlens.circuits.kernels.latent_table import NEVER, LatentEffects
from claimlens.circuits.kernels.latents import (
    ablate_each,
    activations,
    halves,
    loss_increase,
    most_active,
)
from claimlens.circuits.kernels.sae import Sae, ablate_site
from claimlens.circuits.metrics import answer_loss, odds_against
from claimlens.circuits.parts import PromptPairs, Prompts
from claimlens.circuits.verdict import NotMeasured

OUT, POST = "blocks.1.hook_mlp_out", "blocks.1.mlp.hook_post"
WIDTHS = {OUT: micro.WIDTH, POST: 3 * micro.WIDTH}
SITES = tuple(WIDTHS)
LATENTS = (2, 7, 11)
SILENT = 5


def sae_at(hook: str) -> Sae:
    """A standard SAE whose latent 5 never fires."""
    sae = random_sae("standard", hook, WIDTHS[hook])
    assert sae.b_enc is not None
    b_enc = sae.b_enc.clone()
    b_enc[SILENT] = -1e6
    return replace(sae, b_enc=b_enc)


def perfect() -> Sae:
    """An SAE that reconstructs everything: each direction once with each sign."""
    both = torch.cat([torch.eye(micro.WIDTH), -torch.eye(micro.WIDTH)], 1).double()
    zeros = torch.zeros(micro.WIDTH).double()
    return Sae(OUT, "standard", both, both.T, zeros, torch.zeros(2 * micro.WIDTH).double())


# --- one value per prompt ------------------------------------------------------------------------


def chances(twin: Twin, prompts: Prompts) -> list[float]:
    """The probability of each answer after END."""
    answers = answers_of(prompts).tolist()
    logits = [trace.logits[-1] for trace in traces(twin, prompts)]
    return [float(row.softmax(0)[answer]) for row, answer in zip(logits, answers, strict=True)]


def test_the_loss_of_the_answer_and_the_odds_against_it(
    model: Any, twin: Twin, clean: Prompts
) -> None:
    p = chances(twin, clean)
    agree(answer_loss(model, clean), torch.tensor([-math.log(x) for x in p]).double())
    odds = torch.tensor([math.log((1 - x) / x) for x in p]).double()
    agree(odds_against(model, clean), odds)


def test_without_answers_there_is_no_loss(model: Any, clean: Prompts) -> None:
    for score in (answer_loss, odds_against):
        with pytest.raises(ValueError, match="have no answers"):
            score(model, replace(clean, answer=None))


@pytest.mark.parametrize("hook", SITES)
def test_activations_at_a_position(hook: str, model: Any, twin: Twin, clean: Prompts) -> None:
    sae = sae_at(hook)
    expected = [
        twin_sae.encode(sae, site_of(twin, trace, tokens, sae)[-1:])[0, list(LATENTS)]
        for trace, tokens in zip(traces(twin, clean), rows(clean), strict=True)
    ]
    agree(activations(model, clean, sae, LATENTS), expected)


def test_a_label_of_many_positions_is_refused(model: Any, repeated: Prompts) -> None:
    with pytest.raises(ValueError, match="REPEAT stands for"):
        activations(model, repeated, sae_at(OUT), LATENTS, at="REPEAT")


def loss_after(twin: Twin, tokens: Tensor, answer: int, step: Tensor) -> Tensor:
    """The answer's loss with `step` added to what MLP1 writes at the last position."""

    def at_end(written: Tensor) -> Tensor:
        return torch.cat([written[:-1], written[-1:] + step])

    return -twin.run(tokens, mlp_changes={1: at_end}).logits[-1].log_softmax(0)[answer]


@pytest.mark.parametrize("rest", ["raw", "encoded"])
@pytest.mark.parametrize("hook", SITES)
def test_the_loss_increase(
    hook: str, rest: Literal["raw", "encoded"], model: Any, twin: Twin, clean: Prompts
) -> None:
    sae = sae_at(hook)
    w_out = twin.weights["transformer.h.1.mlp.c_proj.weight"]
    expected = []
    for tokens, answer in zip(rows(clean), answers_of(clean).tolist(), strict=True):
        x = site_of(twin, twin.run(tokens), tokens, sae)[-1:]
        latents = twin_sae.encode(sae, x)
        whole, less = (twin_sae.decode(sae, latents, gone) for gone in ((), LATENTS))
        without, with_them = (x - (whole - less), x) if rest == "raw" else (less, whole)
        steps = [(new - x) if hook == OUT else (new - x) @ w_out for new in (without, with_them)]
        gone, kept = (loss_after(twin, tokens, answer, step) for step in steps)
        expected.append(gone - kept)
    agree(loss_increase(model, clean, sae, LATENTS, rest=rest), expected)
    assert float(torch.stack(expected).abs().min()) > 1e-4  # something to see on every prompt


def test_a_latent_that_never_fires_costs_exactly_nothing(model: Any, clean: Prompts) -> None:
    sae, nothing = sae_at(OUT), torch.zeros(len(clean)).double()
    assert torch.equal(loss_increase(model, clean, sae, [SILENT], rest="raw"), nothing)
    assert torch.equal(loss_increase(model, clean, sae, [SILENT], rest="encoded"), nothing)


def test_all_latents_of_a_perfect_sae_are_the_whole_site(model: Any, clean: Prompts) -> None:
    every = range(2 * micro.WIDTH)
    found = loss_increase(model, clean, perfect(), every)
    ablated = answer_loss(ablate_site(model, perfect(), at="END"), clean)
    agree(found, ablated - answer_loss(model, clean), ROUNDING)


def test_another_score_can_be_asked_for(model: Any, clean: Prompts) -> None:
    sae = sae_at(OUT)
    nats_up = loss_increase(model, clean, sae, LATENTS)
    odds_up = loss_increase(model, clean, sae, LATENTS, score=odds_against)
    assert bool((odds_up.sign() == nats_up.sign()).all())
    assert bool((odds_up.abs() > nats_up.abs()).all())  # the loss saturates, the odds don't


# --- which latents -------------------------------------------------------------------------------


def test_the_most_active_latents(model: Any, clean: Prompts) -> None:
    sae = sae_at(OUT)
    mean = activations(model, clean, sae, range(sae.size)).mean(0).tolist()
    expected = sorted(range(sae.size), key=lambda latent: -mean[latent])[:4]
    assert list(most_active(model, clean, sae, 4)) == expected


@pytest.mark.parametrize("k", [0, 41])
def test_more_latents_than_there_are(k: int, model: Any, clean: Prompts) -> None:
    with pytest.raises(ValueError, match=f"k={k} latents of an SAE that has 40"):
        most_active(model, clean, sae_at(OUT), k)


def test_more_latents_than_fire(model: Any, clean: Prompts) -> None:
    with pytest.raises(NotMeasured, match=r"only \d+ latents fire at END"):
        most_active(model, clean, sae_at(OUT), 40)


def test_halves_share_no_prompt_and_all_templates(pairs: PromptPairs) -> None:
    one, other = halves(pairs)
    assert set(one.ids) | set(other.ids) == set(pairs.ids)
    assert not set(one.ids) & set(other.ids)
    assert abs(len(one) - len(other)) <= 1
    twice = replace(pairs, clean=replace(pairs.clean, templates=("a", "b", "c") * 4))
    for half in halves(twice):
        assert sorted(half.templates) == ["a", "a", "b", "b", "c", "c"]


def test_a_single_prompt_has_no_halves(pairs: PromptPairs) -> None:
    with pytest.raises(ValueError, match="no second half"):
        halves(pairs.select([0]))


# --- the table -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def effects(model: Any, pairs: PromptPairs) -> LatentEffects:
    return ablate_each(model, pairs, sae_at(OUT), [2, 7, SILENT, (2, 7)])


def test_each_set_is_ablated_on_its_own(effects: LatentEffects, model: Any, clean: Prompts) -> None:
    sae = sae_at(OUT)
    assert effects.names == ("2", "7", "5", "2+7")
    for i, latents in enumerate(effects.sets):
        agree(effects.raw[:, i], loss_increase(model, clean, sae, latents), ROUNDING)
        encoded = loss_increase(model, clean, sae, latents, rest="encoded")
        agree(effects.encoded[:, i], encoded, ROUNDING)
    agree(effects.activation[:, 3], effects.activation[:, :2].amax(1), 0)


def test_the_table(effects: LatentEffects) -> None:
    table = effects.table()
    cells = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    order = effects.raw.mean(0).argsort(descending=True).tolist()
    assert list(cells) == [effects.names[i] for i in order]
    for i, name in enumerate(effects.names[:2]):
        on = effects.activation[:, i].numpy() > 0.1
        assert cells[name]["share active"] == pytest.approx(on.mean())
        assert cells[name]["mean activation"] == pytest.approx(
            float(effects.activation[:, i].mean())
        )
        assert cells[name]["mean where active"] == pytest.approx(
            effects.activation[:, i].numpy()[on].mean()
        )
        raw, encoded = effects.raw[:, i].numpy(), effects.encoded[:, i].numpy()
        assert cells[name]["loss increase [nats]"] == pytest.approx(raw.mean())
        assert cells[name]["spread"] == pytest.approx(raw.std())
        assert cells[name]["where active"] == pytest.approx(raw[on].mean())
        assert cells[name]["rest encoded"] == pytest.approx(encoded.mean())
        assert cells[name]["spread of encoded"] == pytest.approx(encoded.std())
        assert cells[name]["note"] is None


def test_a_latent_that_never_fires_is_a_row_that_says_so(effects: LatentEffects) -> None:
    (row,) = [row for row in effects.table().rows if row[0] == "5"]
    assert row[-1] == NEVER
    assert row[1:5] == (0.0, 0.0, None, 0.0)
    assert row[6] is None
    faint = replace(effects, above=1e6).table()
    assert [r[-1] for r in faint.rows if r[0] != "5"] == ["never above 1e+06"] * 3


def test_what_never_fires_cannot_be_drawn(effects: LatentEffects) -> None:
    for draw in (effects.histogram, effects.scatter, effects.worst):
        with pytest.raises(NotMeasured, match=r"latent 5 is above 0\.1 in none of the 12 prompts"):
            draw(2)


def test_the_worst_prompts(effects: LatentEffects) -> None:
    worst = effects.worst(0, k=3)
    order = sorted(range(12), key=lambda i: -float(effects.raw[i, 0]))
    active = [i for i in order if float(effects.activation[i, 0]) > 0.1][:3]
    assert [w.id for w in worst] == [effects.ids[i] for i in active]
    assert [w.text for w in worst] == [effects.texts[i] for i in active]
    assert [w.increase for w in worst] == [float(effects.raw[i, 0]) for i in active]
    assert [w.activation for w in worst] == [float(effects.activation[i, 0]) for i in active]
    assert len(effects.worst(0, k=100)) == int(effects.active[:, 0].sum())


def test_the_figures_hold_the_active_prompts(effects: LatentEffects) -> None:
    on = effects.active[:, 0]
    assert tuple(effects.histogram(0).values) == tuple(effects.raw[on, 0].tolist())
    points = [(point.x, point.y) for point in effects.scatter(0).points]
    assert points == list(
        zip(effects.activation[on, 0].tolist(), effects.raw[on, 0].tolist(), strict=True)
    )
    for figure in (effects.histogram(0), effects.scatter(0), effects.table()):
        assert Figure.from_json(figure.to_json()) == figure


def made(active: list[list[int]]) -> LatentEffects:
    """Effects of latents 0, 1, … whose activity is given prompt by prompt."""
    on = torch.tensor(active).double()
    names = tuple(f"p{i}" for i in range(len(active)))
    sets = tuple((i,) for i in range(on.shape[1]))
    return LatentEffects(sets, names, names, on, on, on, above=0.1)


def test_coactivation() -> None:
    rows = [[1, 1, 0, 1, 0], [0, 1, 1, 1, 0], [1, 0, 0, 1, 0], [1, 0, 1, 1, 0]]
    found = made(rows).coactivation()
    expected = np.corrcoef(np.array(rows)[:, :3].T)
    for i in range(3):
        for j in range(3):
            assert found.values[i][j] == pytest.approx(expected[i][j])


def test_a_correlation_with_what_never_changes_is_undefined_and_no_nan() -> None:
    found = made([[1, 1, 0], [0, 1, 0], [1, 1, 0]]).coactivation()
    assert found.values[0][1:] == (None, None)  # always active, never active
    assert found.values[1] == (None, None, None)
    table = found.table()
    assert table.rows[1] == ("1", "undefined", "undefined", "undefined")
    assert table.rows[0] == ("0", pytest.approx(1.0), "undefined", "undefined")


def test_nothing_to_ablate(model: Any, pairs: PromptPairs) -> None:
    with pytest.raises(ValueError, match="no latents given"):
        ablate_each(model, pairs, sae_at(OUT), [])
    with pytest.raises(ValueError, match="no latents given"):
        ablate_each(model, pairs, sae_at(OUT), [()])
    with pytest.raises(ValueError, match="has no latent 40"):
        ablate_each(model, pairs, sae_at(OUT), [40])
