"""Pages in a browser: every type, narrow and wide, light and dark, with JavaScript and without."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from claimlens.ci.selftests import whole_report
from claimlens.ci.selftests.browser import VIEWS, View, looking

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
