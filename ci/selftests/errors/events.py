"""Lists of models, revisions, and events that ask for a comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from claimlens.ci.dispatch import Event, asked_for, secret_of
from claimlens.ci.revision import parsed
from claimlens.ci.selftests.errors.entry import Entry
from claimlens.ci.sweep import read_models

_SECRET = "a secret that both sides know well enough"
_COMMIT = "0" * 40


def _models(text: str) -> Callable[[Path], object]:
    return lambda folder: read_models(_written(folder, text))


def _event(model: str, revision: str = _COMMIT, secret: str = _SECRET) -> Callable[[Path], object]:
    text = json.dumps({"model": model, "revision": revision, "secret": secret})
    return lambda folder: asked_for(_written(folder, text), _SECRET, folder)


def _written(folder: Path, text: str) -> Path:
    path = folder / "given.txt"
    path.write_text(text, encoding="utf-8")
    return path


ENTRIES = (
    Entry(lambda folder: read_models(folder / "models.txt")),
    Entry(_models("# none yet\n")),
    Entry(_models("gpt2\ngpt2\n")),
    Entry(_models("gpt2 medium\n")),
    Entry(lambda folder: Event.read(folder / "event.json")),
    Entry(lambda folder: Event.read(_written(folder, "{}"))),
    Entry(_event("org/name", secret="another")),
    Entry(_event("org/name", revision="main")),
    Entry(_event("org/../name")),
    Entry(_event("org/name")),
    Entry(lambda _: secret_of("CLAIMLENS_SECRET", {})),
    Entry(lambda _: parsed("org/name\n")),
    Entry(lambda _: parsed("org/name@")),
    Entry(lambda _: parsed("a/b/c")),
)
