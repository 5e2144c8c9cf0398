"""Real updates of the shipped model, each with the outcome that it must have."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import track

from claimlens.ci.faults.count import ROOT, Count
from claimlens.ci.faults.forked import run
from claimlens.ci.selftests import updates
from claimlens.circuits.parts import Head
from claimlens.fixtures.names import DEFAULT_DIRECTORY

ACCEPTED, REFUSED = 0, 10
FALSE = "updates that change no function and are not accepted"
MISSED = "updates that break a finding and are not refused"
OTHER = "other outcomes of a finding"
CLAIMS = ("claims/ioi/test_task.py", "claims/ioi/test_name_movers.py")
MOVER = Head(2, 0)
MODEL = "--claims-model=./model"
FOUND = re.compile(r"^  (\w+) +(ioi/\S+(?: L\dH\d)?): ", re.MULTILINE)
Make = Callable[[Path, Path, int], Path]


@dataclass(frozen=True)
class Case:
    """An update made with a seed, the exit code it must have, and what must become of findings.

    None of `outcomes` means that no finding may change.
    """

    make: Make
    code: int
    outcomes: Mapping[str, str] = field(default_factory=dict)


def same(source: Path, target: Path, seed: int = 0) -> Path:
    """No update: the same weights in another directory."""
    return updates.rewritten(source, target, lambda state: None)


CASES: Mapping[str, Case] = {
    "the same": Case(same, ACCEPTED),
    "quantised to int8": Case(lambda a, b, seed: updates.quantised(a, b), ACCEPTED),
    "rescaled": Case(updates.rescaled, ACCEPTED),
    "heads in another order": Case(
        updates.permuted, ACCEPTED, {f"ioi/name-movers-attend-io {MOVER}": "moved"}
    ),
    "a head pruned": Case(
        lambda a, b, seed: updates.pruned(a, b, MOVER),
        REFUSED,
        {
            f"ioi/name-movers-raise-io {MOVER}": "broken",
            f"ioi/name-movers-attend-io {MOVER}": "broken",
            "ioi/logit-diff": "weakened",
        },
    ),
    "an earlier checkpoint": Case(
        lambda a, b, seed: updates.checkpoint(a, b, step=200), REFUSED, {"ioi/accuracy": "broken"}
    ),
    "another rule": Case(
        updates.finetuned,
        REFUSED,
        {"ioi/logit-diff": "broken", f"ioi/name-movers-raise-io {MOVER}": "broken"},
    ),
}


def model_updates(folder: Path, seeds: int) -> Count:
    """Every update with every seed (of the prompts, and of the update where it has one)."""
    count = Count(
        "updates",
        "an update of `default` under `--claims-gate enforce`: the same weights, int8, rescaled, "
        f"heads in another order, a head pruned, step 200, another rule; {seeds} seeds each",
    )
    count.must_not(FALSE, MISSED, OTHER)
    for seed in track(range(seeds), "updates"):
        begun = begin(folder / f"seed-{seed}", seed)
        for name, case in CASES.items():
            code, output = update(begun, case, seed)
            judge(count, case, code, output)
            if not _right(case, code, output):
                count.facts[f"{name}, seed {seed}"] = f"exit {code}, {dict(_found(output))}"
            count.tried += 1
        shutil.rmtree(begun)
    return count


def begin(folder: Path, seed: int) -> Path:
    """A folder with the shipped model, its baseline, and its run; raises RuntimeError."""
    folder.mkdir(parents=True)
    (folder / "claims").symlink_to(ROOT / "claims")
    same(DEFAULT_DIRECTORY, folder / "model")
    code, output = _go(folder, seed, "--claims-baseline=create", "--claims-reason=shipped")
    if code != ACCEPTED:
        raise RuntimeError(f"no baseline could be made with seed {seed}:\n{output[-3000:]}")
    return folder


def update(folder: Path, case: Case, seed: int) -> tuple[int, str]:
    """Put the update in the model's place and gate it: the exit code, and what was printed."""
    put(folder, case, seed)
    return _go(folder, seed, "--claims-gate=enforce")


def put(folder: Path, case: Case, seed: int) -> None:
    """Put an update in the model's place."""
    shutil.rmtree(folder / "model")
    case.make(DEFAULT_DIRECTORY, folder / "model", seed)


def judge(count: Count, case: Case, code: int, output: str) -> None:
    """Count what the gate must not have said of an update."""
    if case.code == ACCEPTED and code != ACCEPTED:
        count.happened(FALSE)
    elif case.code == REFUSED and code != REFUSED:
        count.happened(MISSED)
    elif not _right(case, code, output):
        count.happened(OTHER)


def _right(case: Case, code: int, output: str) -> bool:
    found = _found(output)
    fits = case.outcomes.items() <= found.items() if case.outcomes else not found
    return code == case.code and fits


def _found(output: str) -> dict[str, str]:
    """The outcome of each finding that the gate tells of."""
    return {key: outcome for outcome, key in FOUND.findall(output)}


def _go(folder: Path, seed: int, *options: str) -> tuple[int, str]:
    places = ("--claims-baselines=baselines", f"--claims-seed={seed}")
    return run(folder, *CLAIMS, MODEL, *places, *options)
