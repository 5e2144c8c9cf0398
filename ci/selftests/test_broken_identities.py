"""Identities hold on any model: a kernel or a prompt set broken on purpose turns them red.

Each claim is called as it stands, once as the repository is and once broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any

import pytest
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.circuits.engine.patching import Grid
from claimlens.circuits.kernels import ablate, patch
from claimlens.circuits.kernels.cache import Edit, Hooks
from claimlens.circuits.parts import PromptPairs, Prompts
from claimlens.circuits.verdict import Ledger, Refuted
from claimlens.fixtures.bench import Bench
from claimlens.fixtures.measure import Measure
from claimlens.fixtures.prompts import pattern

RUNNING, PATCHING, TOKENS = (
    import_module(f"claimlens.claims.{name}")
    for name in ("demo.test_running", "patching.test_residual_stream", "tokens.test_tokenization")
)
Break = Callable[[pytest.MonkeyPatch, dict[str, Any]], object]


@pytest.fixture(scope="module")
def sets() -> Bench:
    """The embedded default, for its words and its prompts."""
    return Bench("default")


@pytest.fixture
def given(sets: Bench) -> dict[str, Any]:
    """What the claims take, on a random model of one's own: one that is broken is thrown away."""
    names = ("ioi", "ioi_swapped", "ioi_duplicated", "quotes", "text")
    return {
        "model": micro.boot_micro(micro.random_model()),
        "loaded_model": sets.loaded,
        "measure": Measure(Ledger()),
        "pattern": sets.pattern,
        **{name: getattr(sets, name)(16) for name in names},
        "names": sets.names(),
    }


# --- what is broken -------------------------------------------------------------------------------


def other_values(patched: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    """The values of the next head are set to zero."""
    real = ablate._zero_value
    patched.setattr(ablate, "_zero_value", lambda layer, head: real(layer, (head + 1) % 2))


def one_place_before(patched: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    """What was at a label is patched in one place before it, by the engine and by hooks."""
    real: Any = patch._patched
    there = Grid.at

    def moved(*args: Any, noop: bool) -> Any:
        *rest, place = args
        return real(*rest, replace(place, offset=-1), noop=noop)

    def engine_moved(grid: Grid, name: str) -> tuple[Tensor, Tensor]:
        clean, corrupted = there(grid, name)
        return clean, corrupted - 1

    patched.setattr(patch, "_patched", moved)
    patched.setattr(Grid, "at", engine_moved)


def left_at_the_end(patched: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    """The hooks of a block are taken off after an error alone."""
    kept = []

    @contextmanager
    def leaving(module: Any, *edits: Edit) -> Iterator[None]:
        kept.append(module.hooks(fwd_hooks=Hooks(edits, ()).pairs()))
        kept[-1].__enter__()
        try:
            yield
        except ZeroDivisionError:
            kept[-1].__exit__(None, None, None)
            raise

    patched.setattr(RUNNING, "in_force", leaving)


def left_after_an_error(patched: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    """The hooks of a block are taken off at its end alone."""
    kept = []

    @contextmanager
    def leaving(module: Any, *edits: Edit) -> Iterator[None]:
        kept.append(module.hooks(fwd_hooks=Hooks(edits, ()).pairs()))
        kept[-1].__enter__()
        yield
        kept[-1].__exit__(None, None, None)

    patched.setattr(RUNNING, "in_force", leaving)


def label_moved(name: str, label: str) -> Break:
    """A label of the corrupted side stands one place before that of the clean one, in one pair."""

    def change(p: Prompts) -> Prompts:
        places = p.positions[label].clone()
        places[3] -= 1
        return replace(p, positions={**p.positions, label: places})

    return partial(_with_corrupted, name=name, change=change)


def token_lost(p: Prompts) -> Prompts:
    """An end-of-text in the middle of a prompt, which no text is read as."""
    tokens = p.tokens.clone()
    tokens[3, 1] = 0
    return replace(p, tokens=tokens)


def _with_corrupted(
    patched: pytest.MonkeyPatch,
    given: dict[str, Any],
    name: str,
    change: Callable[[Prompts], Prompts],
) -> None:
    pairs: PromptPairs = given[name]
    assert pairs.corrupted is not None
    given[name] = replace(pairs, corrupted=change(pairs.corrupted))


def _with_clean(patched: pytest.MonkeyPatch, given: dict[str, Any], name: str) -> None:
    given[name] = replace(given[name], clean=token_lost(given[name].clean))


def opened_one_further(patched: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    """OPEN stands a place after the mark that opens."""
    real = pattern._row

    def row(*args: Any) -> Any:
        found = real(*args)
        return found and replace(found, labels={"OPEN": [found.labels["OPEN"][0] + 1]})

    patched.setattr(pattern, "_row", row)


@dataclass(frozen=True)
class Case:
    """A claim, the arguments it takes, and what breaks it."""

    claim: Callable[..., None]
    takes: str
    broken: Break
    error: type[Exception] = Refuted


BOTH = "ioi_swapped ioi_duplicated"
CASES = {
    "values of another head": Case(
        RUNNING.test_ablating_a_heads_values_is_ablating_its_z, "model ioi", other_values
    ),
    "hooks stay": Case(RUNNING.test_hooks_leave_nothing_behind, "model ioi", left_at_the_end),
    "hooks stay after an error": Case(
        RUNNING.test_hooks_leave_nothing_behind,
        "model ioi",
        left_after_an_error,
        ZeroDivisionError,  # from the edit that is still there
    ),
    "patched a place before": Case(
        PATCHING.test_patching_all_that_differs_gives_the_clean_run,
        "model ioi_swapped",
        one_place_before,
    ),
    "S2 elsewhere": Case(
        TOKENS.test_clean_and_corrupted_prompts_have_their_labels_in_the_same_places,
        "model ioi",
        label_moved("ioi", "S2"),
    ),
    "S1 elsewhere when swapped": Case(
        TOKENS.test_so_have_its_variants, f"model {BOTH}", label_moved("ioi_swapped", "S1")
    ),
    "MENTION elsewhere": Case(
        TOKENS.test_so_have_its_variants, f"model {BOTH}", label_moved("ioi_duplicated", "MENTION")
    ),
    "OPEN elsewhere": Case(
        TOKENS.test_quotations_and_bracketed_remarks_have_their_labels_in_the_same_places,
        "model quotes",
        label_moved("quotes", "OPEN"),
    ),
    "a pattern's OPEN elsewhere": Case(
        TOKENS.test_a_pattern_cuts_the_quotations_out_of_whole_sentences,
        "model loaded_model quotes pattern",
        opened_one_further,
    ),
}
ROUND_TRIPS = {
    "ioi": (TOKENS.test_the_tokens_of_a_prompt_are_those_of_its_text, "ioi"),
    "ioi_swapped": (TOKENS.test_so_are_those_of_its_variants, BOTH),
    "ioi_duplicated": (TOKENS.test_so_are_those_of_its_variants, BOTH),
    "quotes": (TOKENS.test_the_tokens_of_a_quotation_are_those_of_its_text, "quotes"),
    "names": (TOKENS.test_a_name_is_one_token_that_comes_back, "names"),
    "text": (TOKENS.test_the_tokens_of_running_text_are_those_of_its_text, "text"),
}
for name, (claim, takes) in ROUND_TRIPS.items():
    arguments = f"model loaded_model {takes}"
    CASES[f"a token of {name}"] = Case(claim, arguments, partial(_with_clean, name=name))
    if name not in ("names", "text"):
        lost = partial(_with_corrupted, name=name, change=token_lost)
        CASES[f"a corrupted token of {name}"] = Case(claim, arguments, lost)


@pytest.mark.parametrize("name", CASES)
def test_a_broken_kernel_turns_its_identity_red(
    name: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    takes = (*case.takes.split(), "measure")
    case.claim(**{argument: given[argument] for argument in takes})
    case.broken(monkeypatch, given)
    with pytest.raises(case.error):
        case.claim(**{argument: given[argument] for argument in takes})
