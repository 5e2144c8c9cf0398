"""Text for a terminal and for a CI log: tokens are data, whatever they contain."""

from __future__ import annotations

import re
import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that show nothing, or turn what stands beside them around."""
_COMMAND = re.compile(r"^(\s*)(::|##\[)")


def shown(text: str) -> str:
    """Text line by line, each as `shown_line`."""
    return "\n".join(shown_line(line) for line in text.split("\n"))


def shown_line(text: str) -> str:
    r"""One line: what cannot be seen as an escape (`\x1b`), and no command to a CI.

    GitHub obeys lines that begin with `::` or `##[`; here a backslash stands before.
    """
    escaped = text if text.isascii() and text.isprintable() else "".join(map(_visible, text))
    return _COMMAND.sub(r"\1\\\2", escaped)


def _visible(character: str) -> str:
    if unicodedata.category(character) in _HIDDEN:
        return character.encode("unicode_escape").decode("ascii")
    return character
