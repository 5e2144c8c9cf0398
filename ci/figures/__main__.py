"""`python -m claimlens.ci.figures RUN.jsonl OUT_DIR [--png]`: draw the figures of a run."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from claimlens.ci.figures.drawing import Drawing
from claimlens.ci.figures.export import NoFigures, export
from claimlens.ci.figures.png import NoPicture, font, png
from claimlens.ci.plain_text import shown_line

EPILOG = """\
examples:
  python -m claimlens.ci.figures RUN.jsonl figures
  python -m claimlens.ci.figures RUN.jsonl figures --only 'ioi/*' --png --scale 2
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one file per figure and print their paths; 2 where that is impossible."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.png and (given.scale is not None or given.dark or given.fonts is not None):
        parser.error("--scale, --dark and --fonts are for --png")
    try:
        picture = _picture(given) if given.png else None
        written = export(given.run, given.folder, given.only, picture)
    except (NoFigures, NoPicture) as error:
        print(f"error: {shown_line(str(error))}", file=sys.stderr)
        return 2
    print(*written, sep="\n")
    left = [path for path in written if given.png and path.suffix == ".html"]
    if left:
        print(
            f"note: {len(left)} of {len(written)} are HTML: token maps and tables have no PNG",
            file=sys.stderr,
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m claimlens.ci.figures",
        description="Draw the figures that the claims of a run attached.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN.jsonl", help="run file of a test run")
    parser.add_argument("folder", type=Path, metavar="OUT_DIR", help="where the files go")
    parser.add_argument("--only", metavar="CLAIM", default="*", help="claims, as 'ioi/*'")
    parser.add_argument("--png", action="store_true", help="PNG in place of SVG")
    parser.add_argument("--scale", type=_scale, help="of a PNG: pixels to a pixel (1)")
    parser.add_argument("--dark", action="store_true", help="of a PNG: light on dark")
    parser.add_argument("--fonts", type=Path, metavar="DIR", help="of a PNG: a folder of fonts")
    return parser


def _scale(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0.1 <= found <= 16:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number from 0.1 to 16")
    return found


def _picture(given: argparse.Namespace) -> Callable[[Drawing], bytes]:
    """What makes a PNG of an SVG drawing; refuses here what no drawing could mend."""
    font(given.fonts)
    return lambda drawing: png(drawing, given.scale or 1.0, given.dark, given.fonts)


if __name__ == "__main__":
    sys.exit(main())
