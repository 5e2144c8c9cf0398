"""Pictures of a report's pages: `ci/screenshots`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from claimlens.ci.plain_text import shown
from claimlens.ci.report.gate_page import PAGE
from claimlens.ci.report.names import page_of
from claimlens.ci.selftests.browser import NoBrowser, View, looking, started

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
CLAIM = "ioi/name-movers-attend-io"
SHOWN = {"overview": ("index.html", 900), "claim": (page_of(CLAIM), 1250), "gate": (PAGE, 900)}
"""Of each picture its page, and the rows of pixels that it shows."""
OPEN = """() => {
  const prompts = document.querySelector("details:has(.text)");
  if (prompts) prompts.open = true;
}"""
"""The weakest and strongest prompts of the first assertion are a part of the picture."""
OPTIONAL = ("gate",)
WIDTH, LARGEST = 1280, 200_000


class NoPicture(ValueError):
    """A picture that cannot be made; the message says why."""


def take(report: Path, folder: Path, gated: Path | None = None) -> list[Path]:
    """A picture of each page, light and 1280 pixels wide; raises NoPicture, NoBrowser, OSError.

    That of the comparison is of the report `gated`, where it is given.
    """
    pages = {name: report / page for name, (page, _) in SHOWN.items()}
    if gated is not None:
        pages["gate"] = gated / PAGE
    for name, page in pages.items():
        if not page.is_file() and name not in OPTIONAL:
            raise NoPicture(f"{page} is missing; expected a report that has the claim {CLAIM}")
    folder.mkdir(parents=True, exist_ok=True)
    with started() as browser, looking(browser, View(WIDTH)) as seen:
        found = []
        for name, page in pages.items():
            if not page.is_file():
                continue
            seen.open(page)
            seen.page.evaluate(OPEN)
            found.append(folder / f"{name}.png")
            whole = seen.page.evaluate("document.documentElement.scrollHeight")
            size = {"x": 0, "y": 0, "width": WIDTH, "height": min(whole, SHOWN[name][1])}
            seen.page.screenshot(path=found[-1], clip=size, full_page=True)  # type: ignore[arg-type]
    return _small(found)


def _small(pictures: list[Path]) -> list[Path]:
    for picture in pictures:
        if (size := picture.stat().st_size) > LARGEST:
            raise NoPicture(f"{picture} has {size} bytes; at most {LARGEST}: show fewer rows")
    return pictures


def main(arguments: Sequence[str] | None = None) -> int:
    """Take them; a fault is one line and code 2."""
    parser = argparse.ArgumentParser(prog="ci/screenshots", description=__doc__)
    parser.add_argument("report", type=Path, help="the folder of a report")
    parser.add_argument("--gate", type=Path, metavar="DIR", help="another, for the comparison")
    parser.add_argument("--to", type=Path, default=PICTURES, metavar="DIR", help="where they go")
    given = parser.parse_args(arguments)
    try:
        for picture in take(given.report, given.to, given.gate):
            print(shown(f"{picture}: {picture.stat().st_size} bytes"))
    except (NoPicture, NoBrowser, OSError) as error:
        print(shown(f"ci/screenshots: {error}"), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
