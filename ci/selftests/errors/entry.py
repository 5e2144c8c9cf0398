"""An entry calls what raises, and is told by which `raise` it was refused and in what words."""

from __future__ import annotations

import argparse
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from claimlens.ci.selftests.errors.sites import ROOT, Site
from claimlens.circuits.verdict import NotApplicable, NotMeasured

SEEN = (
    ValueError,
    TypeError,
    KeyError,
    OSError,
    AssertionError,
    NotMeasured,
    NotApplicable,
    argparse.ArgumentTypeError,
    pytest.UsageError,
    pytest.Collector.CollectError,
)
NAMES = {"FOLDER": r"/[^\s:;,']*/errors-entry-[^\s:;,'/]*"}


@dataclass(frozen=True)
class Entry:
    """What provokes one error in an empty folder; `mend` where the message doesn't say how."""

    call: Callable[[Path], object]
    mend: str = ""


@dataclass(frozen=True)
class Provoked:
    """The error that an entry met."""

    site: Site
    exception: str
    message: str
    mend: str


class Nothing(AssertionError):
    """An entry provoked no error, or one that no site raises."""


def provoked(entry: Entry, known: Sequence[Site]) -> Provoked:
    """What the entry provokes, with the site found from the traceback's innermost frame."""
    with TemporaryDirectory(prefix="errors-entry-") as folder:
        try:
            entry.call(Path(folder))
        except SEEN as error:
            return Provoked(_site(error, known), type(error).__name__, _stable(error), entry.mend)
    raise Nothing(f"{_where(entry)} provokes nothing")


def _site(error: BaseException, known: Sequence[Site]) -> Site:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    file, line = Path(frame.filename).resolve(), frame.lineno or 0
    for site in known:
        if ROOT / site.file == file and site.lines[0] <= line <= site.lines[1]:
            return site
    raise Nothing(f"{file}:{line} is no site: {type(error).__name__}: {error}") from error


def _stable(error: BaseException) -> str:
    """The message without the folder, which is another one each time."""
    text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    for name, pattern in NAMES.items():
        text = re.sub(pattern, name, text)
    return re.sub(r"0x[0-9a-f]{6,}", "0x…", text)


def _where(entry: Entry) -> str:
    code = entry.call.__code__
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}"
