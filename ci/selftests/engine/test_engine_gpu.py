"""When the engine's kernel for a GPU is asked for, and, where there is a GPU, its numbers."""

from __future__ import annotations

import copy
import tempfile
from typing import Any

import pytest
import torch

from claimlens.ci.selftests import architectures, micro
from claimlens.circuits.engine import gpu
from claimlens.circuits.engine.policy import Policy, using
from claimlens.circuits.kernels.projection_loss import KEEPS, loss_changes, loss_changes_of_each
from claimlens.circuits.parts import Prompts
from claimlens.fixtures.loading import Settings, boot
from claimlens.fixtures.prompts.ioi import ioi_prompts
from claimlens.fixtures.tokens import Vocabulary

CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")


def fuses(device: torch.device, dtype: torch.dtype) -> tuple[bool, dict[str, str]]:
    with using(Policy()) as policy:
        return gpu.fuses("losses", device, dtype, 64, 50), policy.ways


@pytest.mark.parametrize("why", ["", "RuntimeError: no compiler"])
def test_only_float32_on_a_gpu_is_for_the_kernel(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "missing", lambda *_: why)
    assert fuses(CPU, torch.float32) == (False, {})
    assert fuses(CUDA, torch.float64) == (False, {})
    assert fuses(CUDA, torch.float32)[0] == (not why)


def test_without_triton_the_record_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "missing", lambda *_: "No module named 'triton'")
    with using(Policy()) as policy:
        gpu.fuses("losses", CUDA, torch.float32, 64, 50)
        policy.went("losses", "engine")
    found = "engine: without a kernel of Triton, which is slower (No module named 'triton')"
    assert policy.ways == {"losses": found}


def test_why_there_is_no_kernel_is_said_in_one_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("there may be one")
    why = gpu.missing("cpu", 64, 50)
    assert why
    assert "\n" not in why


def on(device: str, name: str, dtype: str) -> tuple[Any, Prompts]:
    """A model of an architecture and prompts of several lengths, on a device."""
    from transformers import AutoTokenizer

    settings = Settings(device=device, dtype=dtype, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        micro.tokenizer().save_pretrained(folder)
        words: Any = AutoTokenizer.from_pretrained(folder)
        raw = copy.deepcopy(architectures.raw(name)).to(settings.torch_dtype)
        model = boot(raw, words, "micro", settings)
    prompts = ioi_prompts(Vocabulary(micro.tokenizer()), 6, 0, torch.device(device)).clean
    return model, prompts


@needs_gpu
@pytest.mark.parametrize("name", ["GPT2", "Llama", "GPTNeoX"])
def test_the_kernel_gives_what_hooks_give(name: str) -> None:
    coarse, prompts = on("cuda", name, "float32")
    fine, _ = on("cuda", name, "float64")
    with using(Policy("required")) as policy:
        found = loss_changes_of_each(coarse, prompts)
    assert policy.ways == {"loss_changes_of_each": "engine"}
    with using(Policy("hooks")):
        expected = {keep: loss_changes(fine, prompts, keep) for keep in KEEPS}
    for keep in KEEPS:
        torch.testing.assert_close(found[keep].double(), expected[keep], atol=1e-5, rtol=0)
