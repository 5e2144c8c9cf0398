"""The truth table: which claims are not simply true of a model, and why.

The files of `truth/`, one per topic, say it for every planted model and for the default; a section
named "planted*" speaks of all planted ones. Claims that are not listed hold. The reasons are ours;
test_truth.py measures every cell again.
"""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path

from claimlens.fixtures.planted import PLANTED_NAMES

TABLES = Path(__file__).with_name("truth")
MODELS = (*PLANTED_NAMES, "planted:decoys", "default")
Cells = dict[str, dict[str, dict[str, str]]]
"""By model and claim (with its head, where it has one): the verdict and the reason."""


def cells() -> Cells:
    """Every claim that is not plainly true of a model."""
    merged: Cells = {model: {} for model in MODELS}
    for file in sorted(TABLES.glob("*.toml")):
        for pattern, rows in tomllib.loads(file.read_text(encoding="utf-8")).items():
            models = fnmatch.filter(MODELS, pattern)
            assert models, f"{file.name}: no model is called {pattern!r}"
            for model in models:
                twice = merged[model].keys() & rows.keys()
                assert not twice, f"{file.name}: {model} has {twice} twice"
                merged[model].update(rows)
    return merged


def verdicts() -> dict[str, dict[str, str]]:
    """By model: the verdict of every claim that is not plainly true there."""
    return {m: {name: c["verdict"] for name, c in rows.items()} for m, rows in cells().items()}
