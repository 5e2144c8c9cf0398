"""Going on with a run that was cut: what it has is not measured again, if nothing has changed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from claimlens.ci.run_files import StoredRun
from claimlens.circuits.record import ClaimRecord, source_digest

SAME = ("model", "device", "dtype", "seed", "text")
"""Options that a resumed run must have as the run had them: others change no number."""


class Changed(ValueError):
    """Something is not as it was when the run began; the message says what."""


@dataclass
class Resumed:
    """A run to go on with."""

    run: StoredRun
    models: dict[str, dict[str, Any]] = field(init=False)
    prompts: dict[tuple[str, str, int], str] = field(init=False)

    def __post_init__(self) -> None:
        self.models, self.prompts = {}, {}
        for record in self.run.records:
            self._learn(record)

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise Changed where the command has other options than that of the run."""
        before = self.run.header.get("options", {})
        for name in SAME:
            old, new = before.get(f"claims_{name}"), options.get(f"claims_{name}")
            if old != new:
                raise Changed(
                    f"run {self.run.id} had --claims-{name} {_shown(old)}, this command has "
                    f"{_shown(new)}. It was started by: {self.command}"
                )

    @property
    def command(self) -> str:
        """The command that the run was started by."""
        return shlex.join(["pytest", *map(str, self.run.header.get("arguments", []))])

    @property
    def done(self) -> dict[str, str]:
        """The digest of each finished claim's source, by its node id."""
        return {record.nodeid: record.source_digest for record in self.run.records}

    def check(self, record: ClaimRecord) -> None:
        """Raise Changed where a new result is of another model or of other prompts."""
        name = record.model_name
        known = self.models.get(name)
        if known and "revision" in record.model and known != record.model:
            told = [f"{k} {v!r}" for k, v in record.model.items() if known.get(k) != v]
            raise Changed(
                f"the model {name} is not what run {self.run.id} measured: now {', '.join(told)}; "
                "start a new run"
            )
        for key, digest in _prompts(record):
            if self.prompts.get(key, digest) != digest:
                raise Changed(
                    f"the prompts {key[1]!r} of {name} are not those of run {self.run.id}; start a "
                    "new run"
                )
        self._learn(record)

    def _learn(self, record: ClaimRecord) -> None:
        if "revision" in record.model:
            self.models.setdefault(str(record.model["name"]), record.model)
        for key, digest in _prompts(record):
            self.prompts.setdefault(key, digest)


def missing(
    items: Sequence[pytest.Item], done: Mapping[str, str]
) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The items that a run lacks, and those that are done.

    Raises Changed where one that is done reads otherwise now.
    """
    finished = [item for item in items if item.nodeid in done]
    for item in finished:
        if source_digest(getattr(item, "function")) != done[item.nodeid]:  # noqa: B009  (only Function items have it)
            raise Changed(f"{item.nodeid} was changed since the run measured it; start a new run")
    return [item for item in items if item.nodeid not in done], finished


def _prompts(record: ClaimRecord) -> list[tuple[tuple[str, str, int], str]]:
    """The digest of each set of prompts, by model, name and size."""
    model = record.model_name
    return [((model, str(p["name"]), int(p["n"])), str(p["digest"])) for p in record.prompts]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(map(str, value))
    return "as by default" if value is None else str(value)
