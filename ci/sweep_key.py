"""What a result of a sweep depends on: another key is another result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from os.path import exists, isfile  # unlike Path's, of any text at all
from pathlib import Path

from claimlens.ci.model_names import is_local

OWN = ("conftest.py", "pytest.ini", "pyproject.toml")
"""Files of the folder that pytest runs in which may change what claims are."""


def key_of(model: str, arguments: Sequence[str]) -> str:
    """A digest of a model's name, pytest's arguments, the claims that they name, and the version.

    Of a model in a directory also what lies in it: a hub's revision never changes. Raises OSError.
    """
    sha = hashlib.sha256(repr((model, list(arguments), _version())).encode("ascii", "replace"))
    for path in [*_claims(arguments), *_model_files(model)]:
        with path.open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
        sha.update(repr(str(path)).encode("ascii", "backslashreplace"))
    return sha.hexdigest()


def _version() -> str:
    try:
        return version("claimlens")
    except PackageNotFoundError:
        return "a clone"


def _claims(arguments: Sequence[str]) -> Iterator[Path]:
    """The sources that pytest will collect, and the settings beside them."""
    yield from (Path(name) for name in OWN if Path(name).is_file())
    for argument in arguments:
        for place in _places(argument.partition("::")[0], "--pyargs" in arguments):
            yield from [place] if place.is_file() else sorted(place.rglob("*.py"))


def _places(argument: str, packages: bool) -> Iterator[Path]:
    """The file or folder that an argument names, if it does; with --pyargs also a package's."""
    if exists(argument):
        yield Path(argument)
    elif packages and all(part.isidentifier() for part in argument.split(".")):
        spec = find_spec(argument)
        yield from map(Path, (spec.submodule_search_locations or ()) if spec else ())


def _model_files(model: str) -> Iterator[Path]:
    """What lies in a model's directory; any other directory is none, and may be a whole disk."""
    directory = Path(model.partition(":")[0])
    if is_local(model) and isfile(directory / "config.json"):
        yield from sorted(path for path in directory.rglob("*") if path.is_file())
