"""Hooks on the toy module of the TransformerLens demo, and that nothing of them is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint
from transformer_lens.HookedRootModule import HookedRootModule

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.kernels.samples import SOME
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.cache import Edit, cache, edited
from claimlens.circuits.kernels.hooked import (
    Hooked,
    in_force,
    matching,
    replaced,
    run_module,
    zeroed,
)
from claimlens.circuits.parts import Position, Prompts
from claimlens.circuits.verdict import NotMeasured

FIVE = torch.tensor(5.0)


def hook_point() -> Any:
    make: Any = HookPoint  # untyped
    return make()


class Squared(nn.Module):
    """x -> x * x + offset, with a hook on the square."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset
        self.hook_square = hook_point()

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.hook_square(x * x) + self.offset)


class Toy(HookedRootModule):
    """The demo's module by its formula: x -> x² + 3 -> (x² + 3)² - 4, hooked at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Squared(3.0), Squared(-4.0)
        self.hook_in, self.hook_mid, self.hook_out = hook_point(), hook_point(), hook_point()
        self.setup()  # type: ignore[no-untyped-call]  # transformer_lens' own

    def forward(self, x: Tensor) -> Tensor:
        middle = self.hook_mid(self.first(self.hook_in(x)))
        return torch.as_tensor(self.hook_out(self.second(middle)))


@pytest.fixture
def toy() -> Toy:
    return Toy()


def left_behind(module: Any) -> list[str]:
    """Hooks that are still there, by torch's own books, and contexts that are not empty."""
    points = module.hook_dict.items()
    return [name for name, p in points if p._forward_hooks or p.fwd_hooks or p.ctx]


# --- cache, ablate, patch -------------------------------------------------------------------------


def test_every_activation_of_the_toy(toy: Toy) -> None:
    run = run_module(toy, FIVE, names=matching(toy, "*"))
    assert float(run.output) == 780
    assert {name: float(value) for name, value in run.activations.items()} == {
        "hook_in": 5,
        "first.hook_square": 25,
        "hook_mid": 28,
        "second.hook_square": 784,
        "hook_out": 780,
    }
    _, theirs = toy.run_with_cache(FIVE)
    assert {name: float(theirs[name]) for name in theirs} == {
        name: float(run[name]) for name in run.activations
    }


def test_an_activation_set_to_zero(toy: Toy) -> None:
    assert float(run_module(toy, FIVE, edits=[zeroed("second.hook_square")]).output) == -4
    theirs = toy.run_with_hooks(
        FIVE, fwd_hooks=[("second.hook_square", lambda x, hook: torch.zeros_like(x))]
    )
    assert float(theirs) == -4


def test_an_activation_patched_from_another_run(toy: Toy) -> None:
    """At the endpoints: the input patched gives the other run, nothing patched the same run."""
    other = run_module(toy, torch.tensor(2.0), names=["hook_in", "hook_mid"])
    for hook in ("hook_in", "hook_mid"):
        patched = run_module(toy, FIVE, edits=[replaced(hook, other[hook])])
        assert torch.equal(patched.output, other.output)
    assert torch.equal(run_module(toy, FIVE).output, toy(FIVE))
    same = replaced("hook_in", FIVE, noop=True)
    assert float(run_module(toy, FIVE, edits=[same]).output) == 780


def test_what_is_kept_is_what_the_edits_left(toy: Toy) -> None:
    edits = [zeroed("hook_mid"), Edit("hook_mid", lambda x: x + 7, "seven more")]
    run = run_module(toy, FIVE, edits=edits, names=["hook_mid"])
    assert (float(run["hook_mid"]), float(run.output)) == (7, 45)


def test_a_language_model_takes_the_same_edits(model: Any, clean: Prompts) -> None:
    plain = cache(model, clean).logits
    silent = cache(edited(model, zeroed("blocks.1.hook_mlp_out")), clean).logits
    by_module = run_module(model, clean.tokens, edits=[zeroed("blocks.1.hook_mlp_out")]).output
    assert torch.equal(by_module, silent)
    assert not torch.equal(silent, plain)
    assert torch.equal(run_module(model, clean.tokens).output, plain)


# --- filters --------------------------------------------------------------------------------------


def test_filters_by_pattern_and_by_function(toy: Toy, model: Any) -> None:
    assert matching(toy, "*.hook_square") == ("first.hook_square", "second.hook_square")
    assert matching(toy, lambda name: "out" in name) == ("hook_out",)
    patterns = matching(model, "*hook_pattern")
    assert patterns == tuple(f"blocks.{n}.attn.hook_pattern" for n in range(micro.LAYERS))


def test_a_filter_that_matches_nothing_is_an_error(toy: Toy) -> None:
    with pytest.raises(NotMeasured, match=r"no hook is selected by '\*pattern'; the first of 5"):
        matching(toy, "*pattern")
    with pytest.raises(NotMeasured, match="no hook is selected by this function"):
        matching(toy, lambda name: False)


# --- contexts -------------------------------------------------------------------------------------


def test_in_a_context_every_call_is_edited_and_after_it_none(toy: Toy) -> None:
    with in_force(toy, zeroed("first.hook_square"), names=["hook_mid"]) as kept:
        assert float(toy(FIVE)) == float(toy(torch.tensor(1.0))) == 5
        assert float(kept["hook_mid"]) == 3
    assert float(toy(FIVE)) == 780
    assert left_behind(toy) == []


def test_contexts_nest(toy: Toy) -> None:
    with in_force(toy, zeroed("first.hook_square")):
        with in_force(toy, zeroed("second.hook_square")):
            assert float(toy(FIVE)) == -4
        assert float(toy(FIVE)) == 5
    assert left_behind(toy) == []


def test_a_context_in_which_nothing_ran_is_an_error(toy: Toy) -> None:
    told = pytest.raises(NotMeasured, match="did not fire: zero ablation of hook_mid, hook_in")
    with told, in_force(toy, zeroed("hook_mid"), names=["hook_in"]):
        pass


# --- nothing left behind --------------------------------------------------------------------------


def fails(value: Tensor) -> Tensor:
    raise RuntimeError("the edit is broken")


def wrong_shape(value: Tensor) -> Tensor:
    return torch.zeros(7)


FAULTS: dict[str, tuple[Callable[[Tensor], Tensor], type[BaseException]]] = {
    "an error": (fails, RuntimeError),
    "a wrong shape": (wrong_shape, NotMeasured),
    "no change": (torch.clone, NotMeasured),
}


def books(module: Any) -> tuple[list[str], int]:
    return left_behind(module), module.context_level


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_an_edit_that_fails_leaves_no_hook_on_the_toy(
    fault: tuple[Callable[[Tensor], Tensor], type[BaseException]], toy: Toy
) -> None:
    before = books(toy)
    broken = Edit("second.hook_square", fault[0], "broken")
    with pytest.raises(fault[1]):
        run_module(toy, FIVE, edits=[zeroed("hook_mid"), broken], names=["hook_in"])
    assert books(toy) == before == ([], 0)
    assert float(toy(FIVE)) == 780


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_an_edit_that_fails_leaves_no_hook_on_a_language_model(
    fault: tuple[Callable[[Tensor], Tensor], type[BaseException]], model: Any, clean: Prompts
) -> None:
    before, plain = books(model), cache(model, clean).logits
    broken = edited(zero_ablate(model, SOME), Edit("blocks.2.hook_mlp_out", fault[0], "broken"))
    with pytest.raises(fault[1]):
        cache(broken, clean, ["blocks.0.hook_resid_pre"])
    assert books(model) == before
    assert before[0] == []
    assert torch.equal(cache(model, clean).logits, plain)


def test_an_error_in_the_block_is_handed_on_and_leaves_nothing(toy: Toy) -> None:
    with pytest.raises(ZeroDivisionError), in_force(toy, zeroed("hook_mid")):
        1 / 0  # noqa: B018  (it is to fail)
    assert books(toy) == ([], 0)


def test_hooks_of_others_stay(toy: Toy, model: Any, clean: Prompts) -> None:
    seen: list[float] = []
    toy.hook_out.add_hook(lambda x, hook: seen.append(float(x)))
    run_module(toy, FIVE, edits=[zeroed("second.hook_square")])
    with pytest.raises(RuntimeError):
        run_module(toy, FIVE, edits=[Edit("hook_in", fails, "broken")])
    toy(FIVE)
    assert seen == [-4, 780]


def test_hooks_without_this_care_would_be_left(toy: Toy) -> None:
    """What the books show if nobody cleans up: the checks above can fail."""
    toy.hook_mid.add_hook(lambda x, hook: None)
    assert left_behind(toy) == ["hook_mid"]
    toy.reset_hooks()
    toy.hook_in.ctx["note"] = 1
    assert left_behind(toy) == ["hook_in"]


# --- what is refused ------------------------------------------------------------------------------


def test_a_hook_that_the_module_lacks_is_an_error_that_names_near_ones(toy: Toy) -> None:
    with pytest.raises(NotMeasured, match="no hook 'hook_middle'; near names: hook_mid"):
        run_module(toy, FIVE, edits=[zeroed("hook_middle")])
    with pytest.raises(NotMeasured, match="no hook 'hook_square'"):
        run_module(toy, FIVE, names=["hook_square"])


def test_an_edit_at_a_label_needs_prompts(toy: Toy) -> None:
    at_end = Edit("hook_mid", torch.zeros_like, "zero at END", at=Position("END"))
    with pytest.raises(NotMeasured, match="zero at END: a labelled position needs prompts"):
        run_module(toy, FIVE, edits=[at_end])
    assert books(toy) == ([], 0)


def test_both_kinds_of_module_are_hooked(toy: Toy, model: Any) -> None:
    assert isinstance(toy, Hooked)
    assert isinstance(model, Hooked)
    assert not isinstance(nn.Linear(1, 1), Hooked)
