"""Which way a sweep is measured, engine or hooks, within which memory, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from claimlens.circuits.record import AS_ASKED
from claimlens.circuits.verdict import NotMeasured

T = TypeVar("T")
Mode = Literal["auto", "hooks", "required"]
"""auto: the engine where it can, else hooks, visibly; required: no sweep by hooks; hooks: no
engine."""
MAX_BYTES = 2**29
"""Memory that a sweep may take besides the model and the intact run, unless told otherwise."""


class Unsupported(Exception):
    """The engine can't measure this; the message says why. Hooks can."""


@dataclass
class Policy:
    """How sweeps are measured, and which way each has gone: "engine", or "hooks: why".

    `progress` is told the name of a sweep, how many of its cells x prompts are done, and of how
    many. `ran_out` says what was done where memory ran out, if it did.
    """

    mode: Mode = "auto"
    max_bytes: int = MAX_BYTES
    progress: Callable[[str, int, int], None] | None = None
    ways: dict[str, str] = field(default_factory=dict)
    ran_out: str = ""

    def went(self, sweep: str, way: str) -> None:
        """Note the way of a sweep; one that went by hooks once did not go by the engine."""
        if way != "engine" or sweep not in self.ways:
            self.ways[sweep] = way


_CURRENT: ContextVar[Policy | None] = ContextVar("claimlens_engine", default=None)
_DEFAULT = Policy()


def policy() -> Policy:
    """The policy in force."""
    return _CURRENT.get() or _DEFAULT


@contextmanager
def using(chosen: Policy) -> Iterator[Policy]:
    """Within this block, sweeps are measured as `chosen` says."""
    token = _CURRENT.set(chosen)
    try:
        yield chosen
    finally:
        _CURRENT.reset(token)


def either(sweep: str, fast: Callable[[], T], plain: Callable[[], T]) -> T:
    """A sweep by the engine, or by its plain form where the engine can't or must not.

    Raises NotMeasured where only the engine is allowed and it can't.
    """
    chosen = policy()
    if chosen.mode == "hooks":
        chosen.went(sweep, AS_ASKED)
        return plain()
    try:
        found = fast()
    except Unsupported as reason:
        if chosen.mode == "required":
            raise NotMeasured(
                f"{sweep} is not for the engine: {reason}; allow hooks (mode auto)"
            ) from None
        chosen.went(sweep, f"hooks: {reason}")
        return plain()
    chosen.went(sweep, "engine")
    return found
