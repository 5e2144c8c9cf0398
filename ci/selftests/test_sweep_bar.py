"""The bar of a long sweep: where somebody sees it, after a second, and gone without a trace."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.processes import OWN_PLUGINS
from claimlens.fixtures.measuring import measuring
from claimlens.fixtures.sweep_bar import SweepBar

WIDTH = 60
TOKEN = re.compile(r"\x1b\[([?0-9]*)([A-Za-z])|(.)", re.DOTALL)


def screen(written: str) -> list[str]:
    """What a terminal shows of this: newlines, returns, cursor up, to a column, erase line."""
    lines: list[list[str]] = [[]]
    row = column = 0
    for number, command, char in TOKEN.findall(written):
        if command == "A":
            row -= int(number or 1)
        elif command == "G":
            column = int(number) - 1
        elif command == "K":
            lines[row] = [] if number == "2" else lines[row][:column]
        elif char == "\n":
            row += 1
        elif char == "\r":
            column = 0
        elif char:
            lines[row].extend(" " * (column + 1 - len(lines[row])))
            lines[row][column] = char
            column += 1
        lines.extend([] for _ in range(row + 1 - len(lines)))
    return "\n".join("".join(line).rstrip() for line in lines).rstrip("\n").split("\n")


@dataclass
class Watched:
    """A bar on a terminal that is a string, below a begun line, with a clock set by hand."""

    begun: str = ""
    terminal: bool = True
    now: float = 0.0
    captured: bool = True
    out: io.StringIO = field(default_factory=lambda: io.StringIO(newline=""))

    def __post_init__(self) -> None:
        self.out.write(self.begun)
        console = Console(
            file=self.out, force_terminal=self.terminal, width=WIDTH, _environ={"TERM": "xterm"}
        )
        self.bar = SweepBar(
            console, self.uncaptured, column=lambda: len(self.begun), clock=lambda: self.now
        )

    @contextmanager
    def uncaptured(self) -> Iterator[None]:
        """As pytest's: what is written outside of it is lost."""
        self.captured = False
        yield
        self.captured = True

    def after(self, now: float, done: int, total: int = 10, sweep: str = "patch") -> list[str]:
        """What the terminal shows once the sweep has told this at this time."""
        self.now = now
        before = self.out.getvalue()
        self.bar(sweep, done, total)
        assert self.captured
        assert self.terminal or self.out.getvalue() == before
        return self.shown

    @property
    def shown(self) -> list[str]:
        return screen(self.out.getvalue())


def test_a_bar_comes_after_a_second_and_goes_without_a_trace() -> None:
    seen = Watched("test_x.py ..")
    assert seen.after(0.0, 0) == seen.after(0.9, 4) == ["test_x.py .."]
    for now, done, share in ((1.0, 5, "50%"), (1.5, 7, "70%")):
        line, bar = seen.after(now, done)
        assert line == "test_x.py .."
        assert bar.startswith("patch ━")
        assert share in bar
        assert len(bar) <= WIDTH
    assert seen.after(2.0, 10) == ["test_x.py .."]
    seen.out.write("F [100%]")
    assert seen.shown == ["test_x.py ..F [100%]"]


@pytest.mark.parametrize("begun", ["", "x" * WIDTH])
def test_what_follows_stands_where_it_would_have_stood(begun: str) -> None:
    """At the start of a line, and where a full line has to be continued below."""
    seen = Watched(begun)
    seen.after(0.0, 0)
    assert "patch" in seen.after(2.0, 5)[-1 if begun else 0]
    seen.after(3.0, 10)
    seen.out.write("next")
    assert "".join(seen.shown) == f"{begun}next"


def test_a_sweep_of_less_than_a_second_shows_nothing() -> None:
    seen = Watched()
    for now, done in ((0.0, 0), (0.5, 5), (0.99, 10), (5.0, 0), (5.9, 9), (5.95, 10)):
        assert seen.after(now, done) == [""]
    assert seen.out.getvalue() == ""


def test_a_sweep_inside_another_has_a_second_of_its_own() -> None:
    seen = Watched()
    seen.after(0.0, 0, sweep="outer")
    seen.after(0.9, 0, sweep="inner")
    assert seen.after(1.1, 5, sweep="inner") == [""]
    assert "outer" in seen.after(1.2, 5, sweep="outer")[0]
    assert "inner" in seen.after(2.0, 6, sweep="inner")[0]


def test_drawing_takes_little_of_a_sweep() -> None:
    seen = Watched()
    for step in range(1000):
        seen.after(step / 250, step, 1000)
    assert 20 <= seen.out.getvalue().count("patch") <= 32


def test_where_nobody_sees_it_there_is_no_bar() -> None:
    blind = Watched("x", terminal=False)
    for now, done in ((0.0, 0), (2.0, 5), (3.0, 10)):
        assert blind.after(now, done) == ["x"]


def test_a_sweep_that_is_broken_off_takes_its_bar_along() -> None:
    seen = Watched("..")
    with suppress(KeyboardInterrupt), measuring(bar=seen.bar) as chosen:
        assert chosen.progress is seen.bar
        seen.after(0.0, 0)
        assert len(seen.after(2.0, 5)) == 2
        raise KeyboardInterrupt
    assert seen.shown == [".."]
    assert seen.out.getvalue().count("\x1b[?25h") == 1  # the cursor is shown again


# --- in a test run -------------------------------------------------------------------------------

SLOW = '''
import time

import pytest
import torch
from claimlens.circuits.engine.policy import policy


@pytest.mark.claim("bar/slow", kind="identity", source="here")
def test_slow(model, ioi, measure):
    """A sweep that takes over a second."""
    print("of the claim")
    for done in range(9):
        if policy().progress is not None:
            policy().progress("slow-sweep", done, 9)
        time.sleep(0.2)
    assert measure(lambda p: torch.ones(len(p.texts)), on=ioi, unit="x", exact=True) >= 1


def test_after():
    """A test that is no claim."""
'''


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bar") / "suite"
    micro.write_directory(folder / "model")
    (folder / "test_x.py").write_text(SLOW)
    return folder


def on_terminal(folder: Path, site: Path, *options: str) -> str:
    """All that pytest writes where its output is a terminal."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "pytest", *OWN_PLUGINS, "-p", "no:cacheprovider"]
    places = [f"--rootdir={folder}", "-c", os.devnull, "--claims-model=./model"]
    own = {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(
        [*command, *places, *options],
        cwd=folder,
        env={**os.environ, **own},
        stdout=slave,
        stderr=slave,
    ) as process:
        os.close(slave)
        written = b""
        with suppress(OSError):  # the other end is closed
            while piece := os.read(master, 4096):
                written += piece
    os.close(master)
    assert process.returncode == 0, written.decode()
    return written.decode()


@pytest.mark.parametrize(
    ("option", "lines"),
    [
        (
            "-v",
            [r"test_x.py::test_slow\[./model\] HOLDS +\[ 50%\]", r"test_x.py::test_after PASSED.*"],
        ),
        ("-s", [r"test_x.py of the claim", r"", r"\.\."]),
    ],
)
def test_the_output_of_pytest_is_left_as_it_was(
    suite: Path, clone_site: Path, option: str, lines: list[str]
) -> None:
    written = on_terminal(suite, clone_site, option)
    assert re.search(r"slow-sweep .*━.*\d\d%", written)
    shown = screen(written)
    start = next(i for i, line in enumerate(shown) if line.startswith("test_x.py"))
    for line, expected in zip(shown[start:], lines, strict=False):
        assert re.fullmatch(expected, line), "\n".join(shown)
    assert "slow-sweep" not in "\n".join(shown)
    assert ("of the claim" in written) == (option == "-s")


def test_without_a_terminal_there_is_no_bar(suite: Path) -> None:
    run = micro.run_pytest(suite, "--claims-model=./model", env={"FORCE_COLOR": "1"})
    assert run.code == 0, run.output
    assert "slow-sweep" not in run.output


def test_two_workers_draw_no_bars(suite: Path, clone_site: Path) -> None:
    pytest.importorskip("xdist")
    assert "slow-sweep" not in on_terminal(suite, clone_site, "-n", "2")
