"""A bar on a terminal, and nothing anywhere else."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from claimlens.ci.progress import progress
from claimlens.ci.run_table import write_runs


def gone_through(terminal: bool, n: int = 5) -> tuple[list[int], str]:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=60, _environ={"TERM": "xterm"})
    return list(progress(range(n), "reading runs", console=console)), file.getvalue()


def test_a_terminal_sees_a_bar() -> None:
    items, told = gone_through(terminal=True)
    assert items == [0, 1, 2, 3, 4]
    assert "reading runs" in told


def test_a_pipe_sees_nothing() -> None:
    assert gone_through(terminal=False) == ([0, 1, 2, 3, 4], "")


def test_a_few_items_have_no_bar() -> None:
    assert gone_through(terminal=True, n=2) == ([0, 1], "")


def test_a_table_of_no_runs_has_a_head_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert write_runs([]) == 0
    assert capsys.readouterr().out.split() == [
        "run", "started", "(UTC)", "models", "claims", "end",
    ]  # fmt: skip
