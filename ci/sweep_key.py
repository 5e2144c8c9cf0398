"""What a result of a sweep depends on: another key is another result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from os.path import exists, expanduser, isfile  # unlike Path's, of any text at all
from pathlib import Path

from claimlens.ci.model_names import is_local

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("circuits", "fixtures")
"""The folders of the code that measures."""
SETTINGS = ("pytest.ini", "pytest.toml", "pyproject.toml", "tox.ini", "setup.cfg")
"""Files of the folder that pytest runs in which may change what claims are."""
LONGEST_NAME = 200


def key_of(model: str, arguments: Sequence[str]) -> str:
    """A digest of a model's name, pytest's arguments, what they name, and the code that measures.

    Of a model in a directory also what lies in it. A hub's model is known by its name alone: only
    one at a commit never changes. Raises OSError.
    """
    sha = hashlib.sha256(repr((model, list(arguments))).encode("ascii", "replace"))
    named = ((str(path), path) for path in (*_settings(), *_named(arguments)))
    sha.update(_code_digest())
    sha.update(_digest([*named, *_model_files(model)]))
    return sha.hexdigest()


@cache
def _code_digest() -> bytes:
    return _digest(_code())


def _digest(files: Iterable[tuple[str, Path]]) -> bytes:
    """Of names and what stands in the files, each once."""
    sha = hashlib.sha256()
    for name, path in dict(files).items():
        with path.open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
        sha.update(repr(name).encode("ascii", "backslashreplace"))
    return sha.digest()


def _code() -> Iterator[tuple[str, Path]]:
    """The sources that measure, by names that do not say where they are installed."""
    for part in PARTS:
        for path in _sources(ROOT / part):
            yield str(path.relative_to(ROOT)), path


def _settings() -> Iterator[Path]:
    yield from (Path(name) for name in (*SETTINGS, "conftest.py") if isfile(name))


def _named(arguments: Sequence[str]) -> Iterator[Path]:
    """The files that arguments name: claims with all that lies beside and above them, and texts."""
    packages = "--pyargs" in arguments
    for argument in arguments:
        for text in (argument.partition("::")[0], argument.partition("=")[2], argument[2:]):
            yield from _of(text)
        if packages:
            for folder in _package(argument.partition("::")[0]):
                yield from _sources(folder)


def _of(text: str) -> Iterator[Path]:
    """What a text names, if that exists; of a Python file, and of a folder, all sources."""
    if not text or not exists(text):
        return
    path = Path(text)
    if path.is_file() and path.suffix != ".py":
        yield path
        return
    folder = path if path.is_dir() else path.parent
    yield from _sources(folder)
    yield from (up / "conftest.py" for up in folder.parents if isfile(up / "conftest.py"))


def _sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if path.is_file())


def _package(name: str) -> list[Path]:
    """The folders of an importable package, or that of a module; none where there is no such."""
    if not all(part.isidentifier() for part in name.split(".")) or len(name) > LONGEST_NAME:
        return []
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return []  # pytest will say so
    if spec is None:
        return []
    places = spec.submodule_search_locations
    return [Path(place) for place in places] if places else [Path(str(spec.origin)).parent]


def _model_files(model: str) -> Iterator[tuple[str, Path]]:
    """What lies in a model's directory; any other directory is none, and may be a whole disk."""
    if not is_local(model) or "\0" in model:
        return
    place = model.partition(":")[0]
    with suppress(UnicodeError):  # no user is called so
        place = expanduser(place)
    directory = Path(place)
    if isfile(directory / "config.json"):
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        yield from ((f"model: {path.relative_to(directory)}", path) for path in files)
