"""Five hundred hostile strings in every text of a report, in a browser: nothing comes of them.

The pages' content-security policy is off here, so that escaping alone has to do; that the policy
stops what is not escaped is a test of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from jinja2 import Environment
from playwright.sync_api import Browser, Error

from claimlens.ci.figures import drawing
from claimlens.ci.report import gate_page, pages
from claimlens.ci.report.pages import write_report
from claimlens.ci.selftests import hostile_report
from claimlens.ci.selftests.browser import SENTINEL, View, Watched, looking
from claimlens.ci.selftests.hostile_strings import strings
from claimlens.circuits.figures import Figure
from claimlens.circuits.record import ClaimRecord

EVERY = strings()
BATCH = 25
NARROW = View(360, policy=False)
POKE = """() => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  const names = ["mouseover", "mouseenter", "focus", "toggle", "load", "error", "begin"];
  for (const element of document.querySelectorAll("*"))
    for (const name of names) element.dispatchEvent(new Event(name));
  const wanted = new Set(["file:"]);
  const away = [...document.links].filter(link => !wanted.has(link.protocol));
  const sent = [...document.querySelectorAll("meta[http-equiv=refresh i]")];
  return [...away.map(link => link.href), ...sent.map(meta => meta.content)];
}"""
"""Opens and touches everything; returns what leads elsewhere than to a file, or by itself."""


def found(seen: Watched, path: Path) -> list[str]:
    """All that came of opening and touching a page."""
    try:
        seen.open(path)
        odd = [f"a link to {href}" for href in seen.page.evaluate(POKE)]
        odd += [seen.too_wide] if seen.too_wide else []
        odd += ["a script ran"] if seen.ran else []
    except Error as error:
        return [*seen.faults, f"the page was left: {error}"]
    elsewhere = seen.page.url != path.resolve().as_uri()
    return [*seen.faults, *odd, *([f"at {seen.page.url}"] if elsewhere else [])]


def harm(browser: Browser, folder: Path, view: View = NARROW) -> Iterator[str]:
    """What came of each page of a report."""
    with looking(browser, view) as seen:
        for path in sorted(folder.rglob("*.html")):
            yield from (f"{path.name}: {each}" for each in found(seen, path))


@pytest.mark.parametrize("first", range(0, len(EVERY), BATCH))
def test_nothing_comes_of_hostile_text(first: int, tmp_path: Path, browser: Browser) -> None:
    texts = EVERY[first : first + BATCH]
    made = write_report(tmp_path, hostile_report.study(texts), {})
    assert made.written == 3 + len(texts)
    assert list(harm(browser, tmp_path)) == []


def test_nothing_comes_of_hostile_text_in_a_comparison(tmp_path: Path, browser: Browser) -> None:
    texts = EVERY[::20]
    write_report(tmp_path, *hostile_report.with_baselines(texts))
    page = tmp_path / gate_page.PAGE
    assert page.read_text().count("<h2") >= len(texts) - 2, "a comparison for each model"
    with looking(browser, NARROW) as seen:
        assert [*found(seen, page), *found(seen, tmp_path / "index.html")] == []


def test_there_are_as_many_as_are_said() -> None:
    assert len(set(EVERY)) == len(EVERY) == 500
    assert sum(SENTINEL in text for text in EVERY) > 150


def test_every_text_of_a_record_is_hostile() -> None:
    """But the words that have to be of a list, and numbers."""
    text = "<b>"
    record = hostile_report.record(text, 0)
    exempt = {"verdict", "claim"}
    for each in fields(ClaimRecord):
        value = getattr(record, each.name)
        if isinstance(value, str) and each.name not in exempt:
            assert value == text, each.name
        assert value or each.name not in ("engine", "reused", "figures", "controls", "prompts")
    kinds = {f["kind"] for n in range(7) for f in hostile_report.figures(text, n)}
    assert kinds == set(Figure.kinds)


# --- it would be noticed


@pytest.fixture
def unescaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages and figures that show text as it is."""

    def bare(environment: Environment) -> Environment:
        return environment.overlay(autoescape=False)

    whole, drawn = bare(pages.templates()), bare(drawing._templates())
    monkeypatch.setattr(pages, "templates", lambda: whole)
    monkeypatch.setattr(drawing, "_templates", lambda: drawn)


ACTING = [
    text for text in EVERY if text.startswith(("<script>window", "<svg onload", "<img src=x"))
]


@pytest.mark.usefixtures("unescaped")
def test_text_that_is_not_escaped_is_noticed(tmp_path: Path, browser: Browser) -> None:
    write_report(tmp_path, hostile_report.study(ACTING), {})
    noticed = list(harm(browser, tmp_path))
    pages_named = {each.partition(": ")[0] for each in noticed if "a script ran" in each}
    assert len(pages_named) >= len(ACTING), noticed
    assert any("dialog: " in each for each in noticed)


@pytest.mark.usefixtures("unescaped")
def test_the_policy_stops_what_is_not_escaped(tmp_path: Path, browser: Browser) -> None:
    write_report(tmp_path, hostile_report.study(ACTING), {})
    noticed = list(harm(browser, tmp_path, View(360)))
    assert noticed, "it is said in the console"
    assert not [each for each in noticed if "a script ran" in each or "dialog" in each]


@pytest.mark.usefixtures("unescaped")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<a href=javascript:window.x=1>x</a>", "a link to javascript:"),
        ("<div style='width:999px'>x</div>", "px too wide"),
        ("<img src=https://nowhere.invalid/x>", "request: https://nowhere.invalid/x"),
        ("<meta http-equiv=refresh content='0;url=other.html'>", r"other\.html|the page was left"),
    ],
)
def test_other_harm_is_noticed(text: str, told: str, tmp_path: Path, browser: Browser) -> None:
    write_report(tmp_path, hostile_report.study([text]), {})
    noticed = list(harm(browser, tmp_path))
    assert any(re.search(told, each) for each in noticed), noticed
