"""The site of the documentation, built by ci/site: the pages of docs/, and what docstrings say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "claimlens"
copyright = "the authors of claimlens"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "claimlens"
html_copy_source = False
html_show_sphinx = False
html_show_sourcelink = False
html_theme_options = {"footer_icons": []}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "undoc-members": False}

_MARKUP = re.compile(r"``[^`]+``|`([^`]+)`|[*|_\\]")


def as_rst(line: str) -> str:
    """A line of a docstring as reStructuredText: `code` is code, and nothing else is markup."""

    def plain(found: re.Match[str]) -> str:
        if found[0].startswith("``"):
            return found[0]
        return f"``{found[1]}``" if found[1] else f"\\{found[0]}"

    return _MARKUP.sub(plain, line)


def docstring(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText: a paragraph laid out as a table stays as it is."""
    paragraphs = "\n".join(lines).split("\n\n")
    return "\n\n".join(map(_paragraph, paragraphs)).splitlines()


def _paragraph(text: str) -> str:
    lines = text.splitlines()
    if any(re.search(r"\S {2,}\S", line) for line in lines):
        return "\n".join(f"| {as_rst(line)}" for line in lines)
    return "\n".join(map(as_rst, lines))


def _escape(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = docstring(lines)


def setup(app: Sphinx) -> None:
    """Docstrings are plain text with `code` in it, not reStructuredText."""
    app.connect("autodoc-process-docstring", _escape)
