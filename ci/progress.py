"""A bar for what takes a while, on a terminal and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")
SHOWN_AFTER = 3
"""Of fewer items no bar is shown: it would only flicker."""


def progress(
    items: Iterable[Item], told: str, total: int | None = None, console: Console | None = None
) -> Iterable[Item]:
    """The items, with a bar on stderr while they are gone through; it leaves nothing behind."""
    screen = console or Console(stderr=True)
    known = total if total is not None else len(items) if isinstance(items, Sized) else None
    if not screen.is_terminal or (known is not None and known < SHOWN_AFTER):
        return items
    return track(items, told, total=known, console=screen, transient=True)
