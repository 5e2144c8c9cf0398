"""The user's side of the engine: options reach the sweeps, and which way they went is said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from claimlens.ci.run_files import read_run
from claimlens.ci.selftests import micro
from claimlens.ci.selftests.micro import Run
from claimlens.circuits.engine.policy import MAX_BYTES, Mode, Unsupported, either, policy
from claimlens.circuits.record import AS_ASKED
from claimlens.circuits.verdict import NotMeasured
from claimlens.fixtures.measuring import MODES, measuring
from claimlens.fixtures.results import ResultCache
from claimlens.fixtures.sizes import bytes_of

CLAIMS = '''
import pytest
import torch
from claimlens.circuits.engine.policy import Unsupported, either, policy


def ones(p):
    return torch.ones(len(p.clean.tokens))


def lacks(p):
    raise Unsupported("no such thing")


def asked(p):
    raise RuntimeError("the engine was asked")


@pytest.mark.claim("engine/knows", kind="identity", source="here")
def test_knows(model, ioi, measure):
    """The engine knows this sweep."""
    known = measure(lambda p: either("known", lambda: ones(p), lambda: ones(p)),
                    on=ioi, unit="x", exact=True)
    assert known >= 1


@pytest.mark.claim("engine/lacks", kind="identity", source="here")
def test_lacks(model, ioi, measure):
    """The engine lacks this sweep."""
    probed = measure(lambda p: either("probe", lambda: lacks(p), lambda: ones(p)),
                     on=ioi, unit="x", exact=True)
    assert probed >= 1


@pytest.mark.claim("engine/lacks-too", kind="identity", source="here")
def test_lacks_too(model, ioi, measure):
    """The engine lacks this sweep, which is refuted."""
    other = measure(lambda p: either("other", lambda: lacks(p), lambda: ones(p)),
                    on=ioi, unit="x", exact=True)
    assert other >= 2


@pytest.mark.claim("engine/asked", kind="identity", source="here")
def test_asked(model, ioi, measure):
    """Nobody may ask the engine."""
    never = measure(lambda p: either("never", lambda: asked(p), lambda: ones(p)),
                    on=ioi, unit="x", exact=True)
    assert never >= 1


@pytest.mark.claim("engine/memory", kind="identity", source="here")
def test_memory(model, ioi, measure):
    """A sweep may take this much."""
    taken = measure(lambda p: ones(p).double() * policy().max_bytes,
                    on=ioi, unit="bytes", exact=True)
    assert taken >= 1
'''
FELL = "by hooks, not by the engine: "


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine") / "suite"
    micro.write_directory(folder / "model")
    (folder / "test_x.py").write_text(CLAIMS)
    return folder


@pytest.fixture(scope="module")
def runs(suite: Path) -> Mapping[str, Run]:
    """The claims in each mode; `default` without options."""
    options: dict[str, tuple[str, ...]] = {"default": ()}
    for mode in MODES:
        options[mode] = (f"--claims-engine={mode}", "--claims-max-memory=3MB")
    model = "--claims-model=./model"
    return {name: micro.run_pytest(suite, model, *given) for name, given in options.items()}


def ways(run: Run, claim: str) -> dict[str, str]:
    (record,) = run.of(f"engine/{claim}")
    return record.engine


@pytest.mark.parametrize("mode", ["default", "auto"])
def test_what_the_engine_lacks_goes_by_hooks_and_the_record_says_so(
    runs: Mapping[str, Run], mode: str
) -> None:
    run = runs[mode]
    assert {r.verdict for r in run.of("engine/lacks") + run.of("engine/knows")} == {"holds"}
    assert ways(run, "knows") == {"known": "engine"}
    assert ways(run, "lacks") == {"probe": "hooks: no such thing"}
    assert ways(run, "lacks-too") == {"other": "hooks: no such thing"}
    assert ways(run, "memory") == {}


@pytest.mark.parametrize("mode", ["default", "auto"])
def test_the_last_lines_say_once_why_sweeps_fell_to_hooks(
    runs: Mapping[str, Run], mode: str
) -> None:
    told = [line for line in runs[mode].output.splitlines() if line.startswith(FELL)]
    assert told == [f"{FELL}other, probe on ./model (no such thing): 2 claims"]


def test_a_claim_that_fails_says_how_it_was_measured(runs: Mapping[str, Run]) -> None:
    assert "  sweeps: other by hooks: no such thing\n" in runs["auto"].output
    assert f"  sweeps: other by {AS_ASKED}\n" in runs["hooks"].output


def test_where_the_engine_is_required_what_it_lacks_is_not_measured(
    runs: Mapping[str, Run],
) -> None:
    run = runs["required"]
    (record,) = run.of("engine/lacks")
    assert record.verdict == "not measured"
    assert record.reason == ("probe is not for the engine: no such thing; allow hooks (mode auto)")
    assert record.engine == {}
    assert ways(run, "knows") == {"known": "engine"}
    assert FELL not in run.output


def test_hooks_never_ask_the_engine_and_that_is_no_news(runs: Mapping[str, Run]) -> None:
    run = runs["hooks"]
    words = {r.claim.removeprefix("engine/"): r.verdict for r in run.records}
    assert words.pop("lacks-too") == "refuted"
    assert set(words.values()) == {"holds"}
    for claim, sweep in (("knows", "known"), ("lacks", "probe"), ("asked", "never")):
        assert ways(run, claim) == {sweep: AS_ASKED}
    assert FELL not in run.output
    assert "RuntimeError: the engine was asked" in runs["auto"].output


@pytest.mark.parametrize(("name", "taken"), [("default", MAX_BYTES), ("auto", 3_000_000)])
def test_the_memory_reaches_the_sweep(runs: Mapping[str, Run], name: str, taken: int) -> None:
    (record,) = runs[name].of("engine/memory")
    assert record.comparisons[0].value == taken


def test_the_header_of_a_run_says_what_was_asked(runs: Mapping[str, Run]) -> None:
    for name, told in (("default", ("auto", "512MiB")), ("required", ("required", "3MB"))):
        file = runs[name].file
        assert file is not None
        options = read_run(file).header["options"]
        assert (options["claims_engine"], options["claims_max_memory"]) == told


WRONG = {
    "--claims-engine=fast": "--claims-engine: invalid choice: 'fast' (choose from",
    "--claims-max-memory=2 gigs": "--claims-max-memory: no amount of memory: '2 gigs'; expected",
    "--claims-max-memory=0": "--claims-max-memory: 0 is no memory at all; expected 512MB, 1.5GiB",
}


@pytest.mark.parametrize("option", WRONG)
def test_a_wrong_option_is_one_line_before_anything_runs(suite: Path, option: str) -> None:
    refused = micro.run_pytest(suite, option, store=suite / "never")
    assert refused.code == pytest.ExitCode.USAGE_ERROR, refused.output
    (line,) = [
        x for x in refused.output.splitlines() if "error: " in x or x.startswith("ERROR: --")
    ]
    assert WRONG[option] in line
    assert "Traceback" not in refused.output
    assert not (suite / "never").exists()


# --- amounts of memory ---------------------------------------------------------------------------

SIZES: Mapping[str | int, int] = {
    "512MB": 512_000_000,
    "2GB": 2_000_000_000,
    "1.5GiB": 3 * 2**29,
    "1.1 kb": 1100,
    "0.1tib": 2**40 // 10,
    "4096": 4096,
    "1B": 1,
    4096: 4096,
    "512MiB": MAX_BYTES,
}


@pytest.mark.parametrize("size", SIZES)
def test_an_amount_of_memory(size: str | int) -> None:
    assert bytes_of(size) == SIZES[size]


@pytest.mark.parametrize(
    "size",
    ["", "GB", "-1GB", "1e9", "1.5", ".5GB", "1,5GB", "1GBB", "inf", "nan", "٣GB", "1GB\n", True],
)
def test_what_is_no_amount_of_memory(size: Any) -> None:
    with pytest.raises(ValueError, match=r"no amount of memory: .*; expected 512MB, 1\.5GiB"):
        bytes_of(size)


@pytest.mark.parametrize("size", ["0", "0GB", "0.0MiB", "0.0001kB", 0])
def test_less_than_a_byte_is_no_memory(size: str | int) -> None:
    with pytest.raises(ValueError, match="is no memory at all"):
        bytes_of(size)


# --- in a notebook -------------------------------------------------------------------------------


def unsupported() -> Tensor:
    raise Unsupported("no such thing")


def one() -> Tensor:
    return torch.ones(1)


def probe(values: Tensor) -> Tensor:
    """A kernel that the engine lacks."""
    return either("probe", unsupported, values.clone)


def test_a_block_measures_as_it_says_and_no_longer() -> None:
    before = policy()
    with measuring("required", "1GB") as chosen:
        assert policy() is chosen
        assert (chosen.mode, chosen.max_bytes, chosen.progress) == ("required", 10**9, None)
        with pytest.raises(NotMeasured, match="probe is not for the engine: no such thing"):
            probe(one())
    assert policy() is before
    with pytest.raises(ValueError, match="engine='fast'; expected one of auto, hooks, required"):
        measuring("fast").__enter__()
    assert set(MODES) == set(get_args(Mode))


def test_a_sweep_that_fell_once_is_not_said_to_have_gone_by_the_engine() -> None:
    with measuring() as chosen:
        for fast in (one, unsupported, one):
            either("probe", fast, one)
    assert chosen.ways == {"probe": "hooks: no such thing"}


# --- results that are kept -----------------------------------------------------------------------


def test_a_kept_result_answers_for_its_mode_and_memory_alone(tmp_path: Path) -> None:
    results = ResultCache(tmp_path / "results")
    asked: list[tuple[Mode, str]] = [("auto", "1GB"), ("hooks", "1GB"), ("auto", "2GB")]
    for known in (False, True):
        for mode, memory in asked:
            with measuring(mode, memory):
                results.measure(probe, one())
            assert results.log[-1].from_cache == known
    with measuring("required", "1GB"), pytest.raises(NotMeasured, match="no such thing"):
        results.measure(probe, one())


@pytest.mark.parametrize("kept", [False, True])
def test_a_result_says_which_way_it_was_measured(tmp_path: Path, kept: bool) -> None:
    results = ResultCache(tmp_path / "results" if kept else None)
    for again in (False, True):
        with measuring() as chosen:
            results.measure(probe, one())
        assert results.log[-1].from_cache == (again and kept)
        assert chosen.ways == {"probe": "hooks: no such thing"}
