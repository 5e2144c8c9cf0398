"""A claim that hangs is not measured, and the others go on."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from claimlens.ci.selftests import micro
from claimlens.fixtures import time_limit
from claimlens.fixtures.time_limit import TimeLimit, TookTooLong

CLAIMS = '''
import signal
import threading
import time

import pytest

@pytest.mark.claim("time/before", kind="identity", source="here")
def test_a(model, ioi, measure):
    """Is quick."""
    assert measure(lambda p: [1.0] * len(p), on=ioi, unit="x", exact=True) >= 0.5

@pytest.mark.claim("time/hung", kind="identity", source="here")
def test_b(model, ioi, measure):
    """Never ends; it need not be waited for: the clock is put forward."""
    {forward}
    while True:
        time.sleep(1)

@pytest.mark.claim("time/after", kind="identity", source="here")
def test_c(model, ioi, measure):
    """Is quick."""
    assert measure(lambda p: [1.0] * len(p), on=ioi, unit="x", exact=True) >= 0.5
'''
TIME_IS_UP = "signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)"
PATIENCE_IS_OVER = """(end,) = (t for t in threading.enumerate() if type(t) is threading.Timer)
    threading.Thread(target=end.function, args=end.args).start()"""
"""Native code hears no signal: what comes next is the end of the process."""


def suite(folder: Path, forward: str = TIME_IS_UP) -> Path:
    micro.write_directory(folder / "model")
    (folder / "test_time.py").write_text(CLAIMS.format(forward=forward))
    return folder


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["serial", "xdist"])
def test_a_claim_that_hangs_is_not_measured(tmp_path: Path, options: tuple[str, ...]) -> None:
    run = micro.run_pytest(suite(tmp_path), "--claims-model=./model", *options)
    found = {record.claim: record for record in run.records}
    assert {name: each.verdict for name, each in found.items()} == {
        "time/before": "holds",
        "time/hung": "not measured",
        "time/after": "holds",
    }, run.output
    assert "no result after 3600 s; allow more with --claims-timeout" in found["time/hung"].reason
    assert run.code == 1


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["serial", "xdist"])
def test_native_code_that_never_comes_back_ends_its_process(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """What was finished is kept, and never is the claim called refuted."""
    folder = suite(tmp_path, forward=PATIENCE_IS_OVER)
    run = micro.run_pytest(folder, "--claims-model=./model", *options)
    verdicts = {record.claim: record.verdict for record in run.records}
    assert verdicts["time/before"] == "holds", run.output
    assert "time/hung" not in verdicts
    if options:
        assert "crashed while running" in run.output
        assert verdicts["time/after"] == "holds"
    else:
        assert run.code == time_limit.HARD_EXIT
        assert "test_b" in run.output
        assert "--claims-resume latest --deselect" in run.output


@pytest.mark.parametrize("given", ["-1", "nan", "inf"])
def test_what_is_no_time_is_refused(tmp_path: Path, given: str) -> None:
    run = micro.run_pytest(suite(tmp_path), f"--claims-timeout={given}")
    assert run.code == pytest.ExitCode.USAGE_ERROR
    assert "is no time; expected seconds" in run.output


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes of processes that would have ended themselves."""
    codes: list[int] = []
    monkeypatch.setattr("os._exit", codes.append)
    return codes


def test_it_is_raised_again_where_a_claim_swallowed_it(ended: list[int]) -> None:
    caught = 0

    def stubborn() -> None:
        nonlocal caught
        while caught < 3:
            try:
                time.sleep(5)
            except TookTooLong:
                caught += 1

    with TimeLimit(0.05).watching(lambda: None):
        stubborn()
    assert (caught, ended) == (3, [])


def test_afterwards_the_clock_and_the_handler_are_as_they_were() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with TimeLimit(60).watching(lambda: None):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
    assert all(timer.finished.is_set() for timer in timers)


@pytest.mark.parametrize("enough", [True, False])
def test_in_another_thread_the_end_of_the_process_is_all_there_is(
    ended: list[int], enough: bool
) -> None:
    words: list[str] = []

    def block() -> None:
        with TimeLimit(0.05, patience=0.05).watching(lambda: words.append("last")):
            time.sleep(0.0 if enough else 0.4)

    _in_a_thread(block)
    assert (words, ended) == (([], []) if enough else (["last"], [time_limit.HARD_EXIT]))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_process_ends_whatever_happens_to_its_last_words(ended: list[int]) -> None:
    def choke() -> None:
        raise ValueError("the output is gone")

    def block() -> None:
        with TimeLimit(0.02, patience=0.02).watching(choke):
            time.sleep(0.3)

    _in_a_thread(block)
    assert ended == [time_limit.HARD_EXIT]


def _in_a_thread(block: Callable[[], None]) -> None:
    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
