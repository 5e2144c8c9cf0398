"""Pages in a browser: every type, narrow and wide, light and dark, with JavaScript and without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from claimlens.ci.report.names import page_of
from claimlens.ci.selftests import whole_report
from claimlens.ci.selftests.browser import (
    VIEWS,
    NoBrowser,
    Scheme,
    View,
    Watched,
    looking,
    started,
)
from claimlens.ci.selftests.processes import RunClaims
from claimlens.ci.selftests.test_figure_colors import contrast

KINDS = whole_report.KINDS


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_report.write(tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_a_page_asks_for_nothing_says_nothing_and_fits(
    view: View, kind: str, report: Path, browser: Browser
) -> None:
    with looking(browser, view) as seen:
        seen.open(report / KINDS[kind])
        assert seen.page.title()
        assert seen.faults == []
        assert seen.too_wide == ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("view", [v for v in VIEWS if v.script], ids=str)
def test_a_page_is_accessible(view: View, kind: str, report: Path, browser: Browser) -> None:
    """No rule of axe is off; its script needs a page that does not enforce its policy."""
    with looking(browser, View(view.width, view.scheme, policy=False)) as seen:
        seen.open(report / KINDS[kind])
        for details in seen.page.locator("details").all():
            details.evaluate("element => { element.open = true }")
        assert seen.violations() == ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_sign_is_legible(scheme: Scheme, report: Path, browser: Browser) -> None:
    """Of each verdict, and of one that is expected: axe does not look at single characters."""
    with looking(browser, View(scheme=scheme)) as seen:
        seen.open(report / KINDS["overview"])
        signs = seen.page.locator(".topic td b, .filters b").all()
        pairs = {tuple(sign.evaluate(COLOURS)) for sign in signs}
    assert len(pairs) >= 7, "six verdicts, and one that is expected"
    for ink, paper in pairs:
        assert contrast(channels(ink), channels(paper)) >= 4.5, (ink, paper)


COLOURS = """element => {
  const own = getComputedStyle(element), clear = "rgba(0, 0, 0, 0)";
  const back = own.backgroundColor === clear
    ? getComputedStyle(document.body).backgroundColor : own.backgroundColor;
  return [own.color, back];
}"""


def channels(color: str) -> tuple[float, ...]:
    return tuple(int(number) / 255 for number in re.findall(r"\d+", color))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_reached_by_keys_can_be_seen(kind: str, report: Path, browser: Browser) -> None:
    with looking(browser, View()) as seen:
        seen.open(report / KINDS[kind])
        styles = []
        for _ in range(12):
            seen.page.keyboard.press("Tab")
            styles.append(seen.page.evaluate(FOCUSED))
    assert sum(map(bool, styles)) > 5
    assert "none" not in styles


FOCUSED = """() => {
  const found = document.activeElement;
  return found === document.body ? "" : getComputedStyle(found).outlineStyle;
}"""
"""The outline of what has the focus; nothing behind the last element."""


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_moves(kind: str, report: Path, browser: Browser) -> None:
    """So nothing has to stand still for those who ask for reduced motion."""
    with looking(browser, View()) as seen:
        seen.open(report / KINDS[kind])
        moving = """() => [...document.querySelectorAll("*")].filter(e => {
          const s = getComputedStyle(e);
          return parseFloat(s.transitionDuration) > 0 || parseFloat(s.animationDuration) > 0;
        }).length"""
        assert seen.page.evaluate(moving) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_on_paper_colours_stay_and_filters_go(kind: str, report: Path, browser: Browser) -> None:
    with looking(browser, View(scheme="dark")) as seen:
        seen.open(report / KINDS[kind])
        seen.page.emulate_media(media="print", color_scheme="light")
        shown = seen.page.locator(".filters, .search").filter(visible=True)
        assert shown.count() == 0
        for part in seen.page.locator("b").all()[:5]:
            assert part.evaluate("e => getComputedStyle(e).printColorAdjust") == "exact"
        assert seen.page.locator("details > :not(summary)").filter(visible=False).count() == 0


def test_the_style_of_figures_leaves_the_rest_of_a_page_as_it_is(
    report: Path, browser: Browser
) -> None:
    told = """selector => {
      const s = getComputedStyle(document.querySelector(selector));
      return [s.fontSize, s.marginTop, s.color, s.fontWeight];
    }"""
    found = []
    for name in (KINDS["claim"], page_of("ioi/holds")):
        with looking(browser, View()) as seen:
            seen.open(report / name)
            found.append([seen.page.evaluate(told, part) for part in ("h2", "main > .scroll th")])
    assert found[0] == found[1]


# --- it would be noticed

PAGE = "<!doctype html><html lang=en><meta charset=utf-8><title>t</title><main><h1>t</h1>{}</main>"
FAULTY = {
    "console error: on purpose": "<script>console.error('on purpose')</script>",
    "console warning: on purpose": "<script>console.warn('on purpose')</script>",
    "page error: on purpose": "<script>throw new Error('on purpose')</script>",
    "request: https://nowhere.invalid/x": "<img alt=x src=https://nowhere.invalid/x>",
    "request: file://": "<script src=other.js></script>",
    "dialog: on purpose": "<script>alert('on purpose')</script>",
}


def opened(seen: Watched, folder: Path, body: str) -> None:
    (folder / "page.html").write_text(PAGE.format(body))
    seen.open(folder / "page.html")


@pytest.mark.parametrize(("told", "body"), FAULTY.items(), ids=FAULTY)
def test_a_fault_is_noticed(told: str, body: str, tmp_path: Path, browser: Browser) -> None:
    with looking(browser, View()) as seen:
        opened(seen, tmp_path, body)
        assert any(fault.startswith(told) for fault in seen.faults), seen.faults


@pytest.mark.parametrize("script", [True, False])
def test_a_page_that_is_too_wide_is_noticed(script: bool, tmp_path: Path, browser: Browser) -> None:
    with looking(browser, View(360, script=script)) as seen:
        opened(seen, tmp_path, "<p style='width:400px'>x</p>")
        assert "px too wide" in seen.too_wide


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        ("image-alt", "<img src='data:,'>"),
        ("color-contrast", "<p style='color:#aaa;background:#fff'>some text</p>"),
        ("landmark-unique", "<nav aria-label=x></nav><nav aria-label=x></nav>"),
    ],
)
def test_a_violation_is_noticed(rule: str, body: str, tmp_path: Path, browser: Browser) -> None:
    with looking(browser, View(policy=False)) as seen:
        opened(seen, tmp_path, body)
        assert rule in seen.violations()


def test_a_plain_page_has_no_fault(tmp_path: Path, browser: Browser) -> None:
    with looking(browser, View(policy=False)) as seen:
        opened(seen, tmp_path, "<p>some text</p>")
        assert (seen.faults, seen.too_wide, seen.violations()) == ([], "", "")


def test_without_a_browser_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoBrowser, match="apt-get install"), started():
        pass


def test_without_a_browser_tests_are_skipped(run_claims: RunClaims) -> None:
    """By the fixture that these tests have, in a process whose PATH has none."""
    test = "def test_page(browser):\n    pass\n"
    conftest = "from claimlens.ci.selftests.conftest import browser\n"
    early = "import os\nos.environ['PATH'] = ''\n"
    done = run_claims({"test_page.py": test, "conftest.py": early + conftest}, "-rs")
    assert "1 skipped" in done.output, done.output
    assert "apt-get install" in done.output
