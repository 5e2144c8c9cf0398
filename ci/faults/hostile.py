"""Names that want out of the store, and texts that want to be obeyed by a terminal or a CI."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path

from rich.progress import track

from claimlens.ci import cli
from claimlens.ci.baseline import Baseline, accepted, baseline_path
from claimlens.ci.faults import suite
from claimlens.ci.faults.count import Count
from claimlens.ci.faults.forked import Forked
from claimlens.ci.github import MOST
from claimlens.ci.run_files import NoRun, find_run
from claimlens.ci.selftests.records import record
from claimlens.ci.store import RunFile
from claimlens.ci.sweep import Unit

OUTSIDE, FAILED = "files outside of the store", "names that were no file's"
OBEYED, RAW = "lines that a CI would obey", "characters that a terminal would obey"
UNTOLD = "claims that the output does not tell"
PARTS = (
    "..", ".", "/", "\\", "~", "/etc/passwd", "C:", "\\\\host\\share", "\x00", "\n", "\r",
    "\x1b[2J",
    "%2e%2e%2f", "\u202e", "\ud83d", "aux", "nul", "$(id)", "`id`", ";", "|", "&", "*", "?", "-rf",
    "--claims-store=/", "é", "e\u0301", "日本語", " ", "", "a" * 300, "latest", "runs", "../../x",
    "@",
    "org/name", "\u2028", "\u0000", "\uff0e\uff0e", "\u2215", "//", "./", ".git", ".locks",
    "con.json",
)  # fmt: skip


def ids(folder: Path, times: int, seed: int = 0) -> Count:
    """Give hostile ids to everything that makes a path of one."""
    count = Count(
        "ids",
        "a hostile id (`..`, absolute paths, control characters, devices, 300 letters) of a run, a "
        "model, a claim: looked up, written as a run, as a unit of a sweep and as a baseline",
    )
    count.must_not(OUTSIDE, FAILED)
    store = folder / "inside" / "store"
    store.mkdir(parents=True)
    chance = random.Random(seed)
    for _ in track(range(times), "ids"):
        name = "".join(chance.choices(PARTS, k=chance.randint(1, 4)))
        try:
            count.happened(OUTSIDE, int(not _write_under(name, store)))
        except (OSError, ValueError):
            count.happened(FAILED)
        count.tried += 1
    count.happened(OUTSIDE, outside(folder, store))
    count.facts["files inside"] = f"{sum(path.is_file() for path in store.rglob('*')):,}"
    return count


def outside(folder: Path, store: Path) -> int:
    """How many files of a folder are not in the store."""
    return sum(path.is_file() and not path.is_relative_to(store) for path in folder.rglob("*"))


def _write_under(name: str, store: Path) -> bool:
    """A run and a baseline of a model of this name; and the name as that of a run to find.

    Whether their places are in the store: nothing is written where they are not.
    """
    unit = Unit.of(name, store)
    path = baseline_path(store / "baselines", name)
    for place in (unit.folder, path):
        if not place.resolve().is_relative_to(store.resolve()):
            return False
    run = RunFile.create(unit.folder, {"claims_model": [name]})
    run.add(record(claim=name, nodeid=name, model={"name": name}))
    run.close()
    claims = {name: accepted(record(claim=name), "2026-01-01", name)}
    Baseline(name, name, name, {}, [name], claims).save(path)
    with suppress(NoRun):
        found = find_run(unit.folder, name)
        if found.parent != unit.folder:
            raise ValueError(f"{name!r} is found outside of its folder")
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        cli.main(["recover", "--store", str(unit.folder), "--", name])
    return True


CLAIM = '''
import json
from pathlib import Path

import pytest

from claimlens.circuits.verdict import NotMeasured

TEXTS = json.loads(Path("texts.json").read_text())

@pytest.mark.claim("text/hostile", kind="identity", source="here")
@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_text(model, ioi, measure, number):
    """Says what a token says."""
    text = TEXTS[number]
    if number % 3 == 0:
        raise NotMeasured(f"token {text}")
    if number % 3 == 1:
        raise ValueError(text)
    from dataclasses import replace

    on = replace(ioi, texts=tuple(text for _ in ioi.texts), grow=None)
    assert measure(lambda p: [float(i) for i in range(len(p))], on=on, unit=text) >= 1e6
'''
PIECES = (
    "::error::x", "::add-mask::x", "::set-output name=x::y", "##[group]x", "::stop-commands::x",
    "\n::error::x", "\r::error::x", "\n##[error]x", "\x1b[31m", "\x1b]0;title\x07", "\x9b31m",
    "\x00",
    "\u202e", "\u2066", "\u200b", "\ud83d", "\u2028::error::x", "\x85::error::x", "\x0b::error::x",
    "\x08", "\x7f", "\U000e0041", "\ufeff", "</summary>", "<script>", "|", "`", "%0A::error::x",
    "]]>",
    "a", " Mary", "日本", "::", "\t", "\x1bP", "\x1b^", "\ue000",
)  # fmt: skip


def tokens(folder: Path, times: int, seed: int = 0) -> Count:
    """A run whose claims say what hostile tokens say, in GitHub Actions; and all that it prints."""
    count = Count(
        "tokens",
        "a hostile token string (`::error::`, escape sequences, lone surrogates, bidi marks) as "
        "a reason, an exception, a unit or a prompt of a claim, told on a terminal and in a CI",
    )
    count.must_not(OBEYED, RAW, UNTOLD)
    chance = random.Random(seed)
    texts = ["".join(chance.choices(PIECES, k=chance.randint(1, 5))) for _ in range(times)]
    home = suite.write(folder / "tokens", suite.write_model(folder / "model"))
    (home / "test_cut.py").write_text(CLAIM)
    (home / "texts.json").write_text(json.dumps(texts))
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(home / "summary.md")}
    running = Forked.start(home, suite.MODEL, "--junitxml=junit.xml", env=env)
    running.wait()
    judge(count, running.output, times)
    judge_summary(count, (home / "summary.md").read_text(encoding="utf-8"))
    count.tried += times
    return count


def judge(count: Count, log: str, claims: int) -> None:
    """Count what would be obeyed in a log that may hold MOST commands of our own."""
    told = re.findall(r"\btest_text\[[^\]]*\]", log)
    count.happened(UNTOLD, max(0, claims - len(set(told))))
    lines = re.split(r"\r\n|\n|\r", log)
    obeyed = [line for line in lines if re.match(r"\s*(::|##\[)", line)]
    own = [line for line in obeyed if re.match(r"::error title=[^:,]*::", line)]
    count.happened(OBEYED, len(obeyed) - min(len(own), MOST))
    count.happened(RAW, sum(map(_raw, log)))


def judge_summary(count: Count, summary: str) -> None:
    """Count the characters of a step's summary that are seen by nobody and do something."""
    count.happened(RAW, sum(map(_raw, summary)) + summary.count("<script"))


def _raw(character: str) -> bool:
    """Whether a terminal does something else with it than show it."""
    return character not in "\n\t" and unicodedata.category(character) in (
        "Cc", "Cf", "Cs", "Co", "Zl", "Zp",
    )  # fmt: skip
