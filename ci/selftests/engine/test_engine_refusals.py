"""What the engine refuses, and what it says then: how to mend it, or that hooks can do it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from claimlens.ci.selftests import architectures, micro
from claimlens.ci.selftests.engine.samples import LENGTHS, column, patched
from claimlens.circuits.engine.changes import (
    Cell,
    Change,
    Site,
    add,
    replace,
    resid_pre,
    scale,
    scale_latents,
    site_of,
    z,
)
from claimlens.circuits.engine.policy import Policy, Unsupported, either, using
from claimlens.circuits.engine.read import Activation, LogitDiff, Losses
from claimlens.circuits.engine.run import Run, check_source, intact_run
from claimlens.circuits.engine.sweep import Sweep, sweep
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.kernels.sae import Sae
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotMeasured


def own(name: str = "GPT2") -> Any:
    """A bridge that no other test uses."""
    return micro.boot_micro(copy.deepcopy(architectures.raw(name)))


@pytest.mark.parametrize("hook", ["blocks.0.hook_resid_mid", "hook_embed", "blocks.x.hook_mlp_out"])
def test_a_hook_that_is_no_site_is_named_beside_those_that_are(hook: str) -> None:
    known = "hook_resid_pre, hook_attn_out, mlp.hook_post, hook_mlp_out"
    with pytest.raises(ValueError, match=f"no site at '{hook}'.*{known}"):
        site_of(hook)
    assert site_of("blocks.3.mlp.hook_post") == Site("neurons", 3)


def test_an_sae_of_another_hook_is_refused() -> None:
    sae = Sae("blocks.0.hook_resid_post", "standard", *(torch.ones(2, 2),) * 2, torch.ones(2))
    with pytest.raises(ValueError, match=r"no site at 'blocks.0.hook_resid_post'"):
        scale_latents(sae, [0], 0.0)


@pytest.mark.parametrize(("kind", "head"), [("z", None), ("resid_pre", 0)])
def test_a_site_has_a_head_or_not(kind: Any, head: int | None) -> None:
    with pytest.raises(ValueError, match=r"give one for q, k, v"):
        Site(kind, 0, head)


def test_a_site_is_one_that_is_known() -> None:
    """Past the type check of the tests, which a user's program doesn't have."""
    site = object.__new__(Site)
    object.__setattr__(site, "kind", "logits")
    with pytest.raises(ValueError, match=r"no site 'logits'; the engine knows resid_pre, q"):
        site.__post_init__()


def test_a_source_of_other_lengths_is_refused(model: Any, run: Run, source: Run) -> None:
    check_source(run, source)
    prompts = source.prompts
    shorter = dataclasses.replace(prompts, lengths=prompts.lengths - 1)
    fewer = prompts.select(torch.arange(len(LENGTHS) - 1))
    wider = dataclasses.replace(prompts, tokens=torch.cat([prompts.tokens, column(7)], 1))
    for others in (shorter, fewer, wider):
        with pytest.raises(NotMeasured, match="positions don't correspond"):
            check_source(run, intact_run(model, others))


def test_a_source_of_another_model_is_refused(prompts: Prompts) -> None:
    ours, theirs = intact_run(architectures.bridge("GPT2"), prompts), intact_run(own(), prompts)
    with pytest.raises(NotMeasured, match="of another model, or of other weights"):
        check_source(ours, theirs)


def test_weights_changed_since_the_run_are_found_out(prompts: Prompts) -> None:
    model = own()
    run, read = intact_run(model, prompts), LogitDiff.of(prompts)
    cells = [Cell.of(scale(z(Head(0, 0)), 0.0))]
    sweep(run, cells, read)
    with torch.no_grad():
        model.blocks[1].mlp.W_out.mul_(2)
    with pytest.raises(NotMeasured, match="weights were changed since this run"):
        sweep(run, cells, read)
    with pytest.raises(NotMeasured, match="of other weights"):
        check_source(run, intact_run(model, prompts))


def refused(run: Run, change: Change, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Sweep(run, [Cell.of(change)], LogitDiff.of(run.prompts))


def test_a_position_past_the_end_is_refused(run: Run) -> None:
    past = torch.tensor([[n] for n in LENGTHS])
    for at in (past, column(-2)):
        refused(run, scale(resid_pre(0), 0.0, at), "resid_pre in layer 0: a position past the end")
    refused(run, scale(resid_pre(0), 0.0, column(0)[:2]), r"positions of shape \(2, 1\)")
    with pytest.raises(ValueError, match="the read-out: a position past the end"):
        Sweep(run, [], Activation(resid_pre(0), past))
    with pytest.raises(ValueError, match="the read-out: a position past the end"):
        Sweep(run, [], Activation(resid_pre(0), column(-1)))


def test_losses_behind_the_last_token_are_refused(prompts: Prompts) -> None:
    with pytest.raises(NotMeasured, match="nothing follows to be predicted"):
        Losses.of(prompts, prompts.at("END"))


def test_a_layer_or_head_that_is_not_there_is_refused(run: Run) -> None:
    groups, heads = run.weights.groups, run.weights.heads
    refused(run, scale(resid_pre(run.layers), 0.0), "the model has")
    refused(run, scale(resid_pre(-1), 0.0), "the model has")
    refused(run, scale(Site("z", 0, heads), 0.0), f"has {heads} of them")
    refused(run, scale(Site("k", 0, groups), 0.0), f"has {groups} of them")
    with pytest.raises(ValueError, match="the model has"):
        Sweep(run, [], Activation(resid_pre(run.layers), column(0)))


def test_a_value_of_another_shape_or_not_finite_is_refused(run: Run) -> None:
    whole = torch.ones_like(run.pre[0])
    for wrong in (whole[:2], whole[:, :3], whole[..., :3], whole[0]):
        refused(run, replace(resid_pre(0), wrong), "a value of shape .* take both from the same")
    refused(run, replace(resid_pre(0), whole, column(0)), r"a value of shape .* need \(5, 1, 32\)")
    refused(run, add(resid_pre(0), whole * torch.nan), "the value put there is not finite")


def test_a_pattern_that_looks_ahead_is_refused(run: Run) -> None:
    site, ahead = Site("pattern", 0, 0), torch.ones(5, 9, 9)
    refused(run, replace(site, ahead), "attends to later positions")
    refused(run, replace(site, ahead[:, :1], column(2)), "attends to later positions")
    at_end = torch.ones(5, 1, 9).tril(3)
    Sweep(run, [Cell.of(replace(site, at_end, column(3)))], LogitDiff.of(run.prompts))


def test_a_bound_that_one_prompt_passes_is_refused(prompts: Prompts, run: Run) -> None:
    cells = [Cell.of(scale(z(Head(0, 0)), 0.0))]
    with (
        using(Policy(max_bytes=10_000)),
        pytest.raises(NotMeasured, match="10,000 bytes is too small for one prompt of 9 tokens"),
    ):
        sweep(run, cells, LogitDiff.of(prompts))


def test_an_empty_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="give at least one"):
        Cell.of()


def test_the_first_layer_that_is_not_finite_is_named(prompts: Prompts) -> None:
    model = own()
    with torch.no_grad():
        model.blocks[1].mlp.W_out[0, 0] = torch.inf
    with pytest.raises(NotMeasured, match="stream before layer 2 is the first that is not finite"):
        intact_run(model, prompts)


def test_every_run_is_looked_at_not_the_first_alone(prompts: Prompts) -> None:
    model = own()
    with torch.no_grad():
        model.embed.W_E[3] = torch.nan
    intact_run(model, prompts)
    odd = dataclasses.replace(prompts, tokens=prompts.tokens.index_fill(1, torch.tensor([2]), 3))
    with pytest.raises(NotMeasured, match="stream before layer 0 is the first that is not finite"):
        intact_run(model, odd)


def test_a_result_that_is_not_finite_is_refused(prompts: Prompts, run: Run) -> None:
    huge = torch.full_like(run.pre[0], torch.finfo(run.pre[0].dtype).max)
    cells = [Cell.of(replace(resid_pre(1), huge))]
    with pytest.raises(NotMeasured, match="a result is not finite"):
        sweep(run, cells, LogitDiff.of(prompts))


@pytest.mark.parametrize("at", [None, column(1)])
def test_a_change_that_changes_nothing_is_refused(
    at: torch.Tensor | None, prompts: Prompts, run: Run, source: Run
) -> None:
    idle, active = scale(z(Head(0, 0)), 1.0, at), patched(run, source, resid_pre(0))
    for cell in (Cell.of(idle), Cell((*active.changes, idle))):
        with pytest.raises(NotMeasured, match="z of head 0 in layer 0 left it as it was in every"):
            sweep(run, [active, cell], LogitDiff.of(prompts))
    declared = dataclasses.replace(idle, noop=True)
    sweep(run, [active, Cell.of(declared)], LogitDiff.of(prompts))


def test_a_change_of_one_prompt_is_a_change(prompts: Prompts, run: Run) -> None:
    value = run.at(resid_pre(0)).clone()
    value[3, 2] += 1
    sweep(run, [Cell.of(replace(resid_pre(0), value))], LogitDiff.of(prompts))


def test_an_unchanged_output_is_a_result(prompts: Prompts) -> None:
    model = own()
    with torch.no_grad():
        model.blocks[0].attn.W_O[1] = 0
    run, read = intact_run(model, prompts), LogitDiff.of(prompts)
    found = Sweep(run, [Cell.of(scale(z(Head(0, 1)), 0.0))], read)
    torch.testing.assert_close(found.result()[0], found.intact(), atol=1e-12, rtol=0)


def test_a_change_behind_what_is_read_is_a_result(prompts: Prompts, run: Run, source: Run) -> None:
    """Nor is one upstream of which is read, or beside it in the last layer."""
    early = LogitDiff(torch.arange(5), torch.arange(5, 10), column(1))
    upstream = Activation(Site("q", 0, 0), prompts.at("END"))
    cells = [patched(run, source, resid_pre(0), 3), patched(run, source, Site("mlp_out", 1), 3)]
    for read in (early, upstream):
        for one in cells[1:] if read is upstream else cells:
            found = Sweep(run, [one], read)
            assert torch.equal(found.result()[0], found.intact())
            idle = [Cell.of(dataclasses.replace(one.changes[0], how="scale", value=1.0))]
            with pytest.raises(NotMeasured, match="left it as it was"):
                sweep(run, idle, read)
    both = Cell((*cells[0].changes, scale(z(Head(1, 0)), 0.5, column(0))))
    sweep(run, [both], LogitDiff.of(prompts))


def unsupported(model: Any, prompts: Prompts, why: str) -> None:
    """The engine says why; hooks measure it, or nothing does where only the engine may."""
    with pytest.raises(Unsupported, match=why):
        intact_run(model, prompts)
    with using(Policy()) as chosen:
        assert either("a sweep", lambda: intact_run(model, prompts), lambda: None) is None
    assert chosen.ways["a sweep"].startswith("hooks: ")
    with using(Policy("required")), pytest.raises(NotMeasured, match="a sweep is not for the eng"):
        either("a sweep", lambda: intact_run(model, prompts), lambda: None)


def test_another_architecture_is_for_hooks(prompts: Prompts) -> None:
    unsupported(architectures.bridge("Gemma2"), prompts, "Gemma2.*it knows GPT2LMHeadModel, Llama")


def test_an_edited_model_is_for_hooks(model: Any, prompts: Prompts) -> None:
    unsupported(zero_ablate(model, Head(0, 0)), prompts, "other edits are in force")


def test_split_inputs_are_for_hooks(prompts: Prompts) -> None:
    model = own()
    intact_run(model, prompts)
    model.set_use_split_qkv_input(True)  # the second run looks again
    unsupported(model, prompts, "query, key and value inputs are split")


def test_a_model_with_hooks_on_it_is_for_hooks(prompts: Prompts) -> None:
    model = own()
    model.add_hook("blocks.1.hook_attn_out", lambda value, hook: value)
    unsupported(model, prompts, "hooks were left on blocks.1.hook_attn_out")
    model.reset_hooks()
    intact_run(model, prompts)


def test_a_hook_found_after_a_run_is_remembered_is_for_hooks(prompts: Prompts) -> None:
    model = own()
    with remembering(Memory()):
        intact_run(model, prompts)
        model.add_hook("blocks.0.hook_mlp_out", lambda value, hook: value)
        unsupported(model, prompts, "hooks were left on blocks.0.hook_mlp_out")


def test_a_model_in_training_is_for_hooks(prompts: Prompts) -> None:
    model = own()
    model.train()
    unsupported(model, prompts, "in training mode")
    model.eval()
    model.blocks[1].attn.train()
    unsupported(model, prompts, "in training mode")


@pytest.mark.parametrize("name", ["GPT2", "Llama", "GPTNeoX"])
def test_another_forward_pass_than_ours_is_for_hooks(name: str, prompts: Prompts) -> None:
    model = own(name)
    model.blocks[1].register_forward_hook(lambda module, given, out: _larger(out))
    unsupported(model, prompts, "its forward pass differs from the model's own by")


def test_another_scale_of_attention_is_for_hooks(prompts: Prompts) -> None:
    model = own("Llama")
    model.blocks[1].attn.original_component.scaling *= 0.5
    unsupported(model, prompts, "its forward pass differs from the model's own by")


def _larger(out: Any) -> Any:
    return (out[0] * 1.001, *out[1:]) if isinstance(out, tuple) else out * 1.001
