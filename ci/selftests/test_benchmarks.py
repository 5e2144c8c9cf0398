"""The benchmarks on a tiny model: same numbers as TransformerLens, red where they should be."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from claimlens.ci.benchmarks import growth
from claimlens.ci.benchmarks.catalogue import build_of, builds
from claimlens.ci.benchmarks.harness import FLOOR, measure, quicker
from claimlens.ci.benchmarks.memory import resident
from claimlens.ci.benchmarks.result import REFERENCE, PeerTimes, Result
from claimlens.ci.benchmarks.rows import ROWS, read_rows
from claimlens.ci.benchmarks.subject import TINY, Subject, make
from claimlens.ci.benchmarks.sweep import (
    TOLERANCE,
    Build,
    Disagreement,
    Sweep,
    check_agreement,
)
from claimlens.ci.benchmarks.table import COLUMNS, Report, cells, write_page
from claimlens.ci.benchmarks.timing import Clock, Times, in_turn, interleaved, ratio
from claimlens.ci.selftests.processes import ROOT, Finished, run_pytest

ROW = "head-to-logits"
COLLECTED = ("-o", "python_files=bench_*.py", "-o", "python_functions=bench_*")


@cache
def subject() -> Subject:
    return make(TINY)


def measured(row: str, build: Build | None = None) -> Result:
    """A row on the tiny model."""
    return measure(quicker(read_rows()[row]), build or build_of(row), subject())


def bench(*options: str) -> Finished:
    """What `ci/bench` runs, on the tiny model."""
    return run_pytest(ROOT, "ci/benchmarks", *COLLECTED, "--tiny", *options, path=[ROOT / ".dev"])


def result(ours: float, reference: float, other: float = 9e9, **more: Any) -> Result:
    """A row that was measured on paper."""
    twice = Times([ours] * 2, [ours] * 2)
    peers = {
        name: PeerTimes(Times([ms] * 2, [ms] * 2), 1, 0.0)
        for name, ms in ((REFERENCE, reference), ("nnsight", other))
    }
    row = replace(read_rows()[ROW], must=10.0, aim=20.0, best_peer=None)
    kept = replace(row, **{k: v for k, v in more.items() if k != "peak_mb"})
    return Result(kept, 4, "cpu", {}, twice, peers, Times([1.0] * 2, [1.0] * 2), 1e9,
                  more.get("peak_mb"))  # fmt: skip


# --- the rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", read_rows())
def test_a_row_gives_the_numbers_of_its_peers(row: str) -> None:
    found = measured(row)
    gaps = {name: peer.gap for name, peer in found.peers.items()}
    assert gaps.pop(FLOOR) is None
    assert REFERENCE in gaps
    assert all(gap is not None and gap < TOLERANCE for gap in gaps.values())
    assert found.flops > 0
    assert len(found.ours.cpu) == len(found.product.wall) == found.row.rounds


def test_every_row_has_a_build_and_every_build_a_row() -> None:
    assert set(builds()) == set(read_rows())
    assert len(read_rows()) == 12
    with pytest.raises(ValueError, match="no row 'nothing'"):
        build_of("nothing")


def test_every_row_says_what_it_must_reach() -> None:
    for name, given in tomllib.loads(ROWS.read_text()).items():
        assert 1 < given["must"] < given["aim"], name


# --- a peer that disagrees -----------------------------------------------------------------------


def off_by(much: float) -> Build:
    """The row with a peer whose numbers are not ours."""

    def build(given: Subject) -> Sweep:
        sweep = build_of(ROW)(given)
        right = sweep.peers()[REFERENCE]

        def wrong(asked: Sequence[int]) -> torch.Tensor:
            return right(asked) + much

        return replace(sweep, peers=lambda: {REFERENCE: wrong})

    return build


def test_a_peer_that_disagrees_is_an_error() -> None:
    assert measured(ROW, off_by(0.0)).peers[REFERENCE].gap is not None
    with pytest.raises(Disagreement, match=r"TransformerLens differs by 0\.002"):
        measured(ROW, off_by(2e-3))


def test_a_sweep_with_cells_left_out_is_an_error() -> None:
    def build(given: Subject) -> Sweep:
        sweep = build_of(ROW)(given)
        return replace(sweep, cells=sweep.cells + 1)

    with pytest.raises(Disagreement, match="4 cells of 5"):
        measured(ROW, build)


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (torch.ones(2, 3) + 2 * TOLERANCE, "differs by 0.002"),
        (torch.ones(2, 3) * torch.nan, "differs by nan"),
        (torch.zeros(2, 3), "all numbers are 0"),
        (torch.ones(3, 2), r"gives \(3, 2\)"),
    ],
)
def test_numbers_that_say_nothing_or_differ_are_refused(theirs: torch.Tensor, why: str) -> None:
    assert check_agreement("peer", torch.ones(2, 3), torch.ones(2, 3)) == 0
    with pytest.raises(Disagreement, match=why):
        check_agreement("peer", torch.ones(2, 3), theirs)


def test_small_numbers_do_not_agree_by_being_small() -> None:
    ours = torch.tensor([[1e-4]])
    with pytest.raises(Disagreement, match="differs by 1e-05"):
        check_agreement("peer", ours, ours * 1.1)


# --- what must be reached ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "missed"),
    [
        (result(1.0, 3.0), []),
        (result(1.0, 2.0), ["8.0 x TransformerLens, must be 10"]),
        (result(1.0, 3.0, 0.5, best_peer=2.0), []),
        (result(1.0, 3.0, 0.4, best_peer=2.0), ["1.6 x nnsight, must be 2"]),
        (result(1.0, 3.0, most_mb=100.0, peak_mb=100.0), []),
        (result(1.0, 3.0, most_mb=100.0, peak_mb=101.0), ["101 MB, must be at most 100"]),
    ],
)
def test_what_is_missed_is_said(found: Result, missed: list[str]) -> None:
    assert [text.removeprefix(f"{ROW}: ") for text in found.missed()] == missed
    assert cells(found)[COLUMNS.index("reached")] == ("no" if missed else "yes")


def test_a_row_that_misses_makes_the_command_fail(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    done = bench("--quick", "--rows", ROW, "--json", str(file))
    assert done.code == 1, done.output
    assert f"x {REFERENCE}, must be 60" in done.output
    (row,) = json.loads(file.read_text())["rows"]
    assert row["missed"]
    assert row["peers"][REFERENCE]["cells"] == 4


def test_an_unknown_row_is_an_error() -> None:
    done = bench("--rows", "nothing")
    assert done.code == 4, done.output
    assert "no row nothing; there are head-all-positions" in done.output


# --- time and memory -----------------------------------------------------------------------------


def test_every_round_runs_each_step_once_ours_last() -> None:
    order: list[str] = []

    def step(name: str) -> Callable[[], None]:
        return lambda: order.append(name)

    steps = {name: step(name) for name in ("ours", "peer", "product")}
    found = interleaved(steps, Clock(torch.device("cpu")), 3, in_turn)
    assert order == ["peer", "product", "ours"] * 3
    assert {len(times.cpu) for times in found.values()} == {3}


def test_a_ratio_is_of_medians_with_its_spread() -> None:
    found = ratio([10.0, 20.0, 90.0], [1.0, 4.0, 3.0])
    assert (found.middle, found.low, found.high) == (20 / 3, 5, 30)


def test_the_clock_knows_work_from_waiting() -> None:
    import time

    cpu, wall = Clock(torch.device("cpu"))(lambda: time.sleep(0.1))
    assert cpu < 60 < wall


def test_the_sample_is_seeded_and_not_the_first_cells() -> None:
    sweep = Sweep(144, lambda: torch.zeros(144, 1), dict, subject().clean)
    assert sweep.sample(4) == sweep.sample(4) != [0, 1, 2, 3]
    assert sweep.sample(500) == list(range(144))


def test_peak_memory_sees_what_is_gone_afterwards() -> None:
    def hungry() -> None:
        held = torch.ones(50_000_000)
        for _ in range(5):
            held.add_(1)

    before = resident(lambda: None)
    assert 150 < resident(hungry) - before < 300


# --- what is measured on -------------------------------------------------------------------------


def test_no_parameter_of_the_model_is_trivial() -> None:
    for name, weight in subject().raw().named_parameters():
        assert float(weight.detach().std()) > 0.01, name


def test_the_pairs_differ_in_four_places_from_the_third_token_on() -> None:
    given = subject()
    differs = given.clean.tokens != given.corrupted.tokens
    assert differs.sum(1).tolist() == [4] * TINY.batch
    assert differs.int().argmax(1).tolist() == [growth.FIRST] * TINY.batch
    assert bool((given.clean.tokens[:, 0] == 0).all())


# --- the page ------------------------------------------------------------------------------------


def test_results_are_read_as_they_were_written() -> None:
    report = Report({"processor": "one"}, [result(1.0, 3.0, peak_mb=5.0)])
    again = Report.from_json(json.loads(json.dumps(report.to_json())))
    assert again.markdown() == report.markdown()
    with pytest.raises(ValueError, match="schema 2"):
        Report.from_json({"schema": 2})


def test_the_table_says_how_many_cells_were_timed() -> None:
    shown = cells(result(1.0, 3.0))
    assert shown[COLUMNS.index(f"{REFERENCE}, ms")] == "12 (1 of 4 cells)"
    assert shown[COLUMNS.index("ratio")] == "12 [12, 12]"


def test_the_page_is_written_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text("before\n<!-- table: begin -->\nold\n<!-- table: end -->\nafter\n")
    write_page("new", "table", page)
    write_page("newer", "table", page)
    assert "newer" in page.read_text()
    assert "old" not in page.read_text()
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("\nafter\n")
    with pytest.raises(ValueError, match="lacks <!-- growth: begin -->"):
        write_page("new", "growth", page)


@pytest.mark.parametrize("part", ["table", "growth"])
def test_docs_speed_has_both_marks(part: str) -> None:
    text = (ROOT / "docs" / "speed.md").read_text()
    assert text.index(f"<!-- {part}: begin -->") < text.index(f"<!-- {part}: end -->")


# --- the peers' environment ----------------------------------------------------------------------


def pins(file: str) -> dict[str, str]:
    """Versions by name."""
    lines = (ROOT / file).read_text().splitlines()
    given = (line.split("==") for line in lines if line and not line.startswith("#"))
    return dict(given)


def test_the_peers_pin_nothing_that_claimlens_pins() -> None:
    peers = pins("ci/benchmarks/peers.txt")
    assert "nnsight" in peers
    assert not set(peers) & set(pins("ci/constraints.txt"))
