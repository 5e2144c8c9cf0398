"""Checks of the kernels on SAEs on any architecture; the referee is the raw model's neurons.

The SAE is on the neurons of layer 1, whose output in the raw model is what its output projection
is given. Latents are encoded by the plain loop of twin_sae.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from claimlens.ci.selftests import architectures, twin_sae
from claimlens.ci.selftests.kernels.every_case import ROUNDING, Case, Check
from claimlens.ci.selftests.kernels.samples import agree
from claimlens.ci.selftests.twin_sae import random_sae
from claimlens.circuits.kernels.global_local import global_and_local, peak_latents
from claimlens.circuits.kernels.latent_drive import mlp_drive
from claimlens.circuits.kernels.latent_logits import activation_map, latent_effects, latent_logits
from claimlens.circuits.kernels.latents import (
    ablate_each,
    active_prompts,
    loss_increase,
    most_active,
)
from claimlens.circuits.kernels.max_activations import max_activations
from claimlens.circuits.kernels.sae import Sae, ablate_latents
from claimlens.circuits.kernels.sae_effects import answer_change, conditions
from claimlens.circuits.kernels.sae_statistics import sae_statistics
from claimlens.circuits.kernels.token_boosts import ablation_boosts, log_probs, weight_boosts
from claimlens.circuits.metrics import answer_loss, answer_tokens, odds_against
from claimlens.circuits.parts import Prompts

LATENTS = [2, 7, 11]
LAYER = 1
Change = Callable[[Tensor], Tensor]


def sae_of(case: Case, layer: int = LAYER) -> Sae:
    return random_sae("standard", f"blocks.{layer}.mlp.hook_post", int(case.model.cfg.d_mlp))


def at_neurons(case: Case, change: Change, layer: int = LAYER) -> architectures.hooked:
    """Within it, the raw model's neurons pass on what `change` makes of them."""
    raw = architectures.raw(case.name)
    return architectures.hooked(architectures.mlp_projection(raw, layer), change)


def neurons(case: Case, prompts: Prompts, layer: int = LAYER) -> Tensor:
    taken: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        taken.append(x.clone())
        return x

    with at_neurons(case, keep, layer):
        case.raw(prompts)
    return taken[0]


def encoded(case: Case, prompts: Prompts, sae: Sae) -> Tensor:
    """Latents of the raw neurons, token by token, "batch pos latent"."""
    return torch.stack([twin_sae.encode(sae, x) for x in neurons(case, prompts)])


def without(case: Case, prompts: Prompts, sae: Sae, latents: list[int]) -> Change:
    """The neurons at END less what these latents decode to."""
    rows, end = case.end(prompts)

    def change(x: Tensor) -> Tensor:
        found = twin_sae.encode(sae, x[rows, end])[:, latents]
        new = x.clone()
        new[rows, end] -= found @ sae.W_dec[latents].double()
        return new

    return change


def answered(case: Case, prompts: Prompts, sae: Sae, latents: list[int]) -> tuple[Tensor, Tensor]:
    """Log-probs after END of the raw model, as it is and without these latents."""
    place = case.end(prompts)
    before = case.raw(prompts)[place].log_softmax(-1)
    with at_neurons(case, without(case, prompts, sae, latents)):
        return before, case.raw(prompts)[place].log_softmax(-1)


def ablated(case: Case) -> None:
    sae, p = sae_of(case), case.clean
    rows, answer = torch.arange(len(p)), answer_tokens(p)[0]
    before, after = answered(case, p, sae, LATENTS)
    lost = (before - after)[rows, answer]
    assert float(lost.abs().max()) > 1e-3
    agree(answer_loss(case.model, p), -before[rows, answer], ROUNDING)
    odds = before[rows, answer].exp()
    agree(odds_against(case.model, p), ((1 - odds) / odds).log(), 10 * ROUNDING)
    agree(loss_increase(case.model, p, sae, LATENTS), lost, ROUNDING)
    table = ablate_each(case.model, case.pairs, sae, [LATENTS])
    agree(table.raw[:, 0], lost, ROUNDING)
    agree(table.activation[:, 0], encoded(case, p, sae)[case.end(p)][:, LATENTS].amax(1), ROUNDING)
    changed = answer_change(case.model, ablate_latents(case.model, sae, LATENTS, "END"), p)
    agree(changed.log_prob, lost, ROUNDING)
    gone = conditions(case.model, sae, LATENTS, p)["latents ablated"]
    agree(answer_loss(gone, p), -after[rows, answer], ROUNDING)


def chosen(case: Case) -> None:
    sae, p = sae_of(case), case.clean
    at_end = encoded(case, p, sae)[case.end(p)]
    best = most_active(case.model, p, sae, 3)
    assert list(best) == at_end.mean(0).topk(3).indices.tolist()
    bound = float(at_end[:, best[0]].sort().values[len(p) // 2 - 1 :][:2].mean())
    kept = active_prompts(case.model, case.pairs, sae, best[0], above=bound)
    firing = (at_end[:, best[0]] > bound).nonzero()[:, 0].tolist()
    assert list(kept.ids) == [case.pairs.ids[row] for row in firing]


def boosted(case: Case) -> None:
    sae, p = sae_of(case), case.clean
    before, after = answered(case, p, sae, LATENTS)
    agree(log_probs(case.model, p), before, ROUNDING)
    agree(ablation_boosts(case.model, p, sae, LATENTS), before - after, ROUNDING)


def attributed(case: Case) -> None:
    """On the last layer: W_dec W_out through the raw model's final norm and unembedding."""
    last = int(case.model.cfg.n_layers) - 1
    sae, p, raw = sae_of(case, last), case.clean, architectures.raw(case.name)
    written = sae.W_dec.double() @ architectures.projection_weights(raw, last)
    expected = architectures.direct(raw, written)
    agree(weight_boosts(case.model, sae, LATENTS), expected[LATENTS], 10 * ROUNDING)
    answer = answer_tokens(p)[0]
    agree(latent_logits(case.model, p, sae), expected[:, answer].T, 10 * ROUNDING)
    rows, end = case.end(p)
    firing = twin_sae.encode(sae, neurons(case, p, last)[rows, end])
    whole = architectures.final_scale(raw, p.tokens)[rows, end]
    effects = firing * expected[:, answer].T / whole[:, None]
    agree(latent_effects(case.model, p, sae), effects, 10 * ROUNDING)


def driven(case: Case) -> None:
    """The neurons of MLP0 at zero at END, and everywhere."""
    sae, p = sae_of(case), case.clean
    rows, end = case.end(p)

    def silent(x: Tensor) -> Tensor:
        new = x.clone()
        new[rows, end] = 0
        return new

    before = encoded(case, p, sae)[rows, end][:, LATENTS]
    for change, everywhere in ((silent, False), (torch.zeros_like, True)):
        with at_neurons(case, change, 0):
            after = encoded(case, p, sae)[rows, end][:, LATENTS]
        found = mlp_drive(case.model, p, sae, LATENTS, 0, everywhere=everywhere)
        agree(found, before - after, ROUNDING)
        assert float(found.abs().max()) > 1e-3


def streamed(case: Case) -> None:
    """Maxima and counts over all tokens but BOS and padding, from the raw neurons."""
    sae, p = sae_of(case), case.clean
    places = torch.arange(p.tokens.shape[1])
    inside = (places > 0) & (places < p.lengths[:, None])
    found = encoded(case, p, sae)
    agree(max_activations(case.model, [p], sae).maximum, found[inside].amax(0), ROUNDING)
    best = found[inside].amax(0).topk(3).indices.tolist()
    assert list(peak_latents(case.model, p, sae, 3)) == best
    counted = sae_statistics(case.model, [p], sae)
    assert torch.equal(counted.fired, (found[inside] > 1e-9).sum(0))
    agree(counted.activation, found[inside].sum(0), 100 * ROUNDING)
    words = [[str(token) for token in row[:n]] for row, n in zip(p.tokens, p.lengths, strict=True)]
    drawn = activation_map(case.model, p, words, sae, LATENTS[:1]).frames["latent 2"]
    agree(torch.tensor(list(drawn[0])), found[0, : len(words[0]), 2], ROUNDING)


def globally_and_locally(case: Case) -> None:
    """The first active position: the latent ablated there alone in the raw model."""
    sae = sae_of(case)
    latent = peak_latents(case.model, case.clean, sae, 1)[0]
    found = global_and_local(case.model, case.pairs, sae, latent, 4)
    p, row, position = found.pairs.clean, int(found.row[0]), int(found.position[0])

    def change(x: Tensor) -> Tensor:
        new = x.clone()
        fires = twin_sae.encode(sae, x[row, position][None])[0, latent]
        new[row, position] -= fires * sae.W_dec[latent].double()
        return new

    before = case.raw(p)[row, position].log_softmax(-1)
    with at_neurons(case, change):
        after = case.raw(p)[row, position].log_softmax(-1)
    told = p.tokens[row, position + 1]
    agree(found.at_one[0], (before - after)[told], ROUNDING)


CHECKS: dict[Check, str] = {
    ablated: "loss_increase ablate_each answer_loss odds_against answer_change conditions",
    chosen: "most_active active_prompts",
    boosted: "ablation_boosts log_probs",
    attributed: "latent_logits latent_effects weight_boosts",
    driven: "mlp_drive ablate_mlp",
    streamed: "max_activations sae_statistics peak_latents activation_map",
    globally_and_locally: "global_and_local",
}
