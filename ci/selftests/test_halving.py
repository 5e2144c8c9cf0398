"""Where memory runs out: fewer prompts at a time, the same values, or no values at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.circuits.engine.policy import Policy, policy, using
from claimlens.circuits.kernels.memory import Memory, remembering
from claimlens.circuits.parts import PromptPairs, Prompts
from claimlens.circuits.verdict import NotMeasured
from claimlens.fixtures.halving import in_halves, out_of_memory

GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes")
TOLERANCE = 1e-9


def pairs(n: int) -> PromptPairs:
    """Prompts of one token: their number."""
    ids = tuple(f"p{i}" for i in range(n))
    made = Prompts(torch.arange(n)[:, None], torch.ones(n, dtype=torch.long), {}, ids)
    return PromptPairs("counted", ids, ids, made, None, bos=False)


def own(on: PromptPairs) -> Tensor:
    """Each prompt's own value."""
    return on.clean.tokens[:, 0].double() ** 2


class Room:
    """A function that runs out of memory on more than `most` prompts."""

    def __init__(self, most: int, error: Exception = GPU, mixed: bool = False) -> None:
        self.most, self.error, self.mixed = most, error, mixed
        self.asked: list[int] = []

    def __call__(self, on: PromptPairs) -> Tensor:
        self.asked.append(len(on))
        if len(on) > self.most:
            raise self.error
        values = own(on)
        return values - values.mean() if self.mixed else values


@pytest.mark.parametrize("error", [GPU, CPU, MemoryError("no room")])
@pytest.mark.parametrize(("n", "most", "size"), [(16, 5, 4), (17, 16, 9), (7, 2, 2), (3, 2, 2)])
def test_the_values_are_those_of_all_at_once(
    error: Exception, n: int, most: int, size: int
) -> None:
    room, on = Room(most, error), pairs(n)
    with using(Policy()) as chosen:
        values = in_halves(room, on, TOLERANCE)
    assert torch.equal(values, own(on))
    assert chosen.ran_out == f"memory ran out: {size} of {n} prompts at a time"
    assert room.asked[0] == n


def test_where_there_is_room_nothing_is_halved() -> None:
    room = Room(16)
    with using(Policy()) as chosen:
        in_halves(room, pairs(16), TOLERANCE)
    assert (room.asked, chosen.ran_out) == ([16], "")


def test_a_measurement_that_mixes_prompts_is_not_halved() -> None:
    with pytest.raises(NotMeasured, match="mixes prompts"):
        in_halves(Room(8, mixed=True), pairs(16), TOLERANCE)


def test_two_prompts_that_do_not_fit_are_not_measured() -> None:
    with pytest.raises(NotMeasured, match="memory ran out on 2 prompts: CUDA out of memory"):
        in_halves(Room(1), pairs(16), TOLERANCE)


def test_another_error_is_none_of_memory() -> None:
    other = RuntimeError("the shapes do not fit")
    assert not out_of_memory(other)
    with pytest.raises(RuntimeError, match="the shapes do not fit"):
        in_halves(Room(4, other), pairs(16), TOLERANCE)


def test_a_wrong_number_of_values_is_refused() -> None:
    def one(on: PromptPairs) -> Tensor:
        if len(on) > 8:
            raise GPU
        return own(on)[:1]

    with pytest.raises(NotMeasured, match="expected 8 values, one per prompt"):
        in_halves(one, pairs(16), TOLERANCE)


def test_what_was_remembered_is_let_go_first() -> None:
    memory = Memory()
    memory.values.keep("old", torch.ones(4), None)
    with remembering(memory):
        in_halves(Room(8), pairs(16), TOLERANCE)
    assert memory.values.find("old") is None


def test_the_claim_before_has_no_part_in_it() -> None:
    """What one claim ran out of is not said of the next: each has a policy of its own."""
    with using(Policy()):
        with using(replace(policy(), ran_out="")):
            in_halves(Room(8), pairs(16), TOLERANCE)
        assert policy().ran_out == ""


CLAIM = '''
import resource

import pytest
import torch

ROOM, EACH = 2**30, 2**24

def limited():
    """No more than ROOM bytes besides what the process has."""
    with open("/proc/self/statm") as file:
        has = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + ROOM, resource.RLIM_INFINITY))

@pytest.mark.claim("room/halved", kind="identity", source="here")
def test_halved(model, ioi, measure):
    """Needs 16 MiB for each of 128 prompts: twice the room."""
    limited()
    def values(p):
        wide = torch.ones(len(p), EACH // 4)
        return wide[:, 0].double() + p.clean.tokens.sum(1) % 7
    assert measure(values, on=ioi, unit="x") >= 0.5

@pytest.mark.claim("room/none", kind="identity", source="here")
def test_none(model, ioi, measure):
    """Needs more for two prompts than there is."""
    limited()
    assert measure(lambda p: torch.ones(len(p), ROOM // 2)[:, 0], on=ioi, unit="x") >= 0.5

@pytest.mark.claim("room/outside", kind="identity", source="here")
def test_outside(model, ioi, measure):
    """Runs out where nothing can be halved."""
    limited()
    torch.ones(2**31)
    assert measure(lambda p: torch.ones(len(p)), on=ioi, unit="x") >= 0.5
'''


def test_a_process_without_memory_measures_fewer_at_a_time(tmp_path: Path) -> None:
    """With a real limit, torch's own allocator, and the whole way to the report."""
    micro.write_directory(tmp_path / "model")
    (tmp_path / "test_room.py").write_text(CLAIM)
    run = micro.run_pytest(tmp_path, "--claims-model=./model")
    (halved,), (none,), (outside,) = (run.of(f"room/{n}") for n in ("halved", "none", "outside"))
    assert halved.verdict == "holds", run.output
    assert halved.memory.startswith("memory ran out: ")
    assert halved.memory in run.output
    assert halved.comparisons[0].n == 128
    assert none.verdict == outside.verdict == "not measured"
    assert none.reason.startswith("memory ran out on 2 prompts")
    assert outside.reason.startswith("memory ran out: ")
