"""All that is known of every claim on every model, from the runs of a store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from claimlens.ci.run_files import StoredRun
from claimlens.ci.sides import TRIED
from claimlens.circuits.record import ClaimRecord


@dataclass(frozen=True)
class Result:
    """A record, and the run that it was measured in."""

    record: ClaimRecord
    run: StoredRun

    @property
    def revision(self) -> str:
        """The weights that it was measured on; empty where the model could not be loaded."""
        return str(self.record.model.get("revision", ""))

    @property
    def started(self) -> str:
        """When its run began."""
        return str(self.run.header.get("started", ""))


@dataclass(frozen=True)
class Study:
    """Results by claim, model and head: of each model its newest revision, the others as history.

    A result of an older revision never stands beside one of the newest: a claim that was not run
    on it is not there.
    """

    models: tuple[str, ...]
    now: dict[str, dict[str, list[Result]]]
    history: dict[tuple[str, str], list[Result]]
    faults: tuple[str, ...] = field(default_factory=tuple)
    runs: tuple[StoredRun, ...] = field(default_factory=tuple)

    @classmethod
    def of(cls, runs: Sequence[StoredRun], faults: Iterable[str] = ()) -> Study:
        """Of runs, oldest first; `faults` are run files that could not be read.

        What the gate tried on other heads (`:candidates`) is no finding.
        """
        history = dict[tuple[str, str], list[Result]]()
        newest = dict[str, str]()
        for result in (Result(record, run) for run in runs for record in run.records):
            model = result.record.model_name
            if model.endswith(TRIED):
                continue
            history.setdefault((result.record.key, model), []).append(result)
            newest[model] = result.revision or newest.get(model, "")
        now = dict[str, dict[str, list[Result]]]()
        for (_, model), results in history.items():
            last = results[-1]
            if last.revision in ("", newest[model]):
                now.setdefault(last.record.claim, {}).setdefault(model, []).append(last)
        return cls(tuple(newest), dict(sorted(now.items())), history, tuple(faults), tuple(runs))

    def past(self, result: Result) -> list[Result]:
        """Every result of the same claim, model and head, oldest first."""
        return self.history[result.record.key, result.record.model_name]

    def results(self) -> list[Result]:
        """All of now, by claim, model and head."""
        return [r for models in self.now.values() for found in models.values() for r in found]

    @property
    def topics(self) -> dict[str, list[str]]:
        """The claims of each topic: what stands before the slash of an id."""
        found = dict[str, list[str]]()
        for claim in self.now:
            found.setdefault(claim.partition("/")[0], []).append(claim)
        return found


def first_broken(history: Sequence[Result]) -> Result | None:
    """The first result that does not hold after the last that did; None where it holds now."""
    if not history or history[-1].record.verdict == "holds":
        return None
    held = [i for i, result in enumerate(history) if result.record.verdict == "holds"]
    return history[held[-1] + 1] if held else None
