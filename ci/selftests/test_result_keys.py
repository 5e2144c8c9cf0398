"""What a result is kept under: everything that changes the number, or it is refused."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.circuits.kernels.ablate import zero_ablate
from claimlens.circuits.kernels.query_sweep import sweep
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Head, PromptPairs
from claimlens.fixtures.prompts.ioi import ioi_prompts
from claimlens.fixtures.result_keys import Unkeyable, key_of
from claimlens.fixtures.results import ResultCache
from claimlens.fixtures.tokens import Vocabulary

HEAD = Head(1, 1)


def scaled(values: Tensor, scale: Any = 2.0) -> Any:
    return values * scale


def without(model: Any, prompts: Any, heads: Any) -> Tensor:
    return logit_diff(zero_ablate(model, heads), prompts)


@pytest.fixture
def model() -> Any:
    return micro.bridge("float64")


@pytest.fixture(scope="module")
def pairs() -> PromptPairs:
    return ioi_prompts(Vocabulary(micro.tokenizer()), 6, 0, torch.device("cpu"))


@pytest.fixture
def results(tmp_path: Path) -> ResultCache:
    return ResultCache(tmp_path / "results")


def measured(results: ResultCache, kernel: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether this call had to be measured."""
    results.measure(kernel, *args, **kwargs)
    return not results.log[-1].from_cache


# --- everything that changes the number is in the key --------------------------------------------


def direction(pairs: PromptPairs, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    width = int(micro.bridge("float64").cfg.d_model)
    return torch.randn(len(pairs), width, generator=generator, dtype=torch.float64)


CHANGES: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "scales": lambda call: {"scales": [0.0, 3.0]},
    "a finer grid of scales": lambda call: {"scales": [0.0, 1.0, 2.0]},
    "prompts": lambda call: {"prompts": call["pairs"].select([1, 2, 3, 4, 5, 0]).clean},
    "fewer prompts": lambda call: {
        "prompts": call["pairs"].select([0, 1]).clean,
        "vector": call["vector"][:2],
    },
    "labels of the same prompts": lambda call: {"prompts": call["pairs"].shuffled(1).clean},
    "corrupted prompts": lambda call: {"prompts": call["pairs"].corrupted},
    "LayerNorm frozen": lambda call: {"norm": "frozen"},
    "after LayerNorm": lambda call: {"norm": "after"},
    "vector": lambda call: {"vector": direction(call["pairs"], 1)},
    "head": lambda call: {"heads": [Head(1, 0)]},
    "both heads": lambda call: {"heads": [HEAD, Head(1, 0)]},
    "key": lambda call: {"into": "key", "at": "S1"},
    "position": lambda call: {"at": "IO"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_argument_of_a_sweep_is_in_the_key(
    results: ResultCache,
    model: Any,
    pairs: PromptPairs,
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    call: dict[str, Any] = {"heads": [HEAD], "vector": direction(pairs), "scales": [0.0, 2.0]}
    changed = {"prompts": pairs.clean, **call, **change({**call, "pairs": pairs})}
    plain = results.measure(sweep, model, pairs.clean, **call)
    assert measured(results, sweep, model, **changed)
    assert not measured(results, sweep, model, pairs.clean, **call)
    again = results.measure(sweep, model, pairs.clean, **call)
    assert all(torch.equal(again[name], plain[name]) for name in plain)


def test_ablated_heads_are_in_the_key(results: ResultCache, model: Any, pairs: PromptPairs) -> None:
    one = results.measure(without, model, pairs.clean, (HEAD,))
    two = results.measure(without, model, pairs.clean, (HEAD, Head(0, 0)))
    assert not torch.equal(one, two)
    assert torch.equal(results.measure(without, model, pairs.clean, (HEAD,)), one)


def test_numbers_that_print_alike_differ(results: ResultCache) -> None:
    keys = set()
    for scale in (1, 1.0, True, "1", (1,), [1], None, 1.0000000000000002):
        with suppress(TypeError):  # not all can be multiplied; their keys are what matters
            results.measure(scaled, torch.ones(2), scale)
        keys.add(results.log[-1].key)
    assert len(keys) == 8


def test_weights_changed_in_place_are_measured_anew(
    results: ResultCache, model: Any, pairs: PromptPairs
) -> None:
    """Through `.data` too, which leaves no trace on the parameter's version counter."""
    before = results.measure(logit_diff, model, pairs.clean)
    weight = next(iter(model.parameters()))
    weight.data[0] += 1.0
    assert not torch.equal(results.measure(logit_diff, model, pairs.clean), before)
    weight.data[0] -= 1.0


def test_dtype_and_architecture_are_in_the_key(
    results: ResultCache, model: Any, pairs: PromptPairs
) -> None:
    assert measured(results, logit_diff, model, pairs.clean)
    assert measured(results, logit_diff, micro.bridge("float32"), pairs.clean)
    assert not measured(results, logit_diff, micro.bridge("float64"), pairs.clean)


@pytest.mark.parametrize("part", ["versions", "_settings", "_device", "package_digest"])
def test_versions_settings_device_and_kernels_are_in_the_key(
    results: ResultCache,
    model: Any,
    pairs: PromptPairs,
    part: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert measured(results, logit_diff, model, pairs.clean)
    monkeypatch.setattr(f"claimlens.fixtures.result_keys.{part}", lambda *_: {"another": "one"})
    assert measured(results, logit_diff, model, pairs.clean)


# --- the kernel's own code -----------------------------------------------------------------------


def written(source: str, name: str = "kernel") -> Any:
    """A function of a module that holds this source."""
    module = types.ModuleType("written")
    exec(source, module.__dict__)
    return module.__dict__[name]


PLAIN = """
import torch
FACTOR = 2.0
def helper(values):
    return values + 1
def kernel(values, more=3.0):
    return torch.relu(helper(values)) * FACTOR * more
"""


def digest(source: str) -> str:
    return key_of(written(source), (torch.ones(2),), {}, weigh=True).digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("* FACTOR", "/ FACTOR"),
        ("values + 1", "values + 2"),
        ("FACTOR = 2.0", "FACTOR = 3.0"),
        ("more=3.0", "more=4.0"),
        ("torch.relu", "torch.tanh"),
    ],
)
def test_the_code_and_all_that_it_uses_is_in_the_key(old: str, new: str) -> None:
    assert digest(PLAIN) == digest(PLAIN)
    assert digest(PLAIN.replace(old, new)) != digest(PLAIN)


def test_comments_and_line_numbers_are_not(tmp_path: Path) -> None:
    assert digest("# a comment\n\n" + PLAIN) == digest(PLAIN)


def test_a_set_in_the_code_has_no_order_of_its_own() -> None:
    source = "def kernel(values):\n    return values if values.ndim in {1, 2, 'a', 'b'} else 0"
    assert digest(source) == digest(source)


def test_kernels_changed_under_our_feet_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    key_of(scaled, (torch.ones(2),), {}, weigh=False)
    monkeypatch.setattr("claimlens.fixtures.result_keys._source", lambda: "edited meanwhile")
    with pytest.raises(Unkeyable, match="start a fresh process"):
        key_of(scaled, (torch.ones(2),), {}, weigh=False)
