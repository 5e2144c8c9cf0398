"""Arguments that kernels and the engine cannot take."""

from __future__ import annotations

from claimlens.ci.selftests.errors.entry import Entry
from claimlens.circuits.engine.changes import Site
from claimlens.circuits.parts import Head

ENTRIES = (
    Entry(lambda _: Site("z", 0)),
    Entry(lambda _: Head.parse("nine")),
)
