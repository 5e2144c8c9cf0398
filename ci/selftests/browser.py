"""A browser that opens pages from disk, and writes down whatever must not happen there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW = (
    f"no browser: none of {', '.join(NAMES)} is on PATH; on Debian and Ubuntu, "
    "`apt-get install --no-install-recommends chromium`"
)
WIDTHS = (360, 1280, 1920)
PATIENCE = 5000.0
"""Milliseconds until what does not appear is missing."""
SENTINEL = "__ran"
"""The name that a hostile script sets in its window."""
Scheme = Literal["light", "dark"]


class NoBrowser(RuntimeError):
    """There is none; the message says how to get one."""


@dataclass(frozen=True)
class View:
    """How a page is looked at; without `policy` its content-security policy is not enforced."""

    width: int = 1280
    scheme: Scheme = "light"
    script: bool = True
    policy: bool = True

    def __str__(self) -> str:
        return f"{self.width}-{self.scheme}-{'with' if self.script else 'without'}-javascript"


VIEWS = [View(w, s, j) for w in WIDTHS for s in ("light", "dark") for j in (True, False)]


class Watched:
    """A page, and all that happened on it that must not."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        self._opened = ""
        page.on("request", self._request)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.faults.append(f"page error: {error}"))
        page.on("dialog", self._dialog)

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a file, and forget what happened on the one before."""
        self.faults.clear()
        self._opened = path.resolve().as_uri()
        self.page.goto(f"{self._opened}{fragment}")

    def _request(self, request: Request) -> None:
        if request.url.partition("#")[0] != self._opened:
            self.faults.append(f"request: {request.url}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"console {message.type}: {message.text}")

    def _dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    @property
    def too_wide(self) -> str:
        """By how much the page is wider than its window; empty where it fits."""
        asked = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        over = self.page.evaluate(asked)
        return f"{over} px too wide" if over > 0 else ""

    @property
    def ran(self) -> bool:
        """Whether a hostile script set the sentinel."""
        return bool(self.page.evaluate(f"Boolean(window.{SENTINEL})"))

    def violations(self) -> str:
        """What axe finds, all its rules on; empty where it finds nothing."""
        results = Axe().run(self.page)
        return str(results.generate_report()) if results.violations_count else ""


def chromium() -> str | None:
    """The first browser of these names on PATH."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def started() -> Iterator[Browser]:
    """A browser; raises NoBrowser."""
    program = chromium()
    if program is None:
        raise NoBrowser(HOW)
    options = ["--no-sandbox"] if os.geteuid() == 0 else []  # root cannot have the sandbox
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def looking(browser: Browser, view: View) -> Iterator[Watched]:
    """A new page in a context of its own."""
    context = browser.new_context(
        viewport={"width": view.width, "height": 900},
        color_scheme=view.scheme,
        java_script_enabled=view.script,
        bypass_csp=not view.policy,
        offline=True,
    )
    context.set_default_timeout(PATIENCE)
    try:
        yield Watched(context.new_page())
    finally:
        context.close()
