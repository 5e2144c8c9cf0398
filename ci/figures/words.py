"""Text that is legible and inert whatever it holds, and about how wide it will be."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

ELLIPSIS, MINUS = "…", "\N{MINUS SIGN}"
_JOINER = "\u200d"  # holds emoji together
_PICTURES = {"\n": "↵", "\t": "⇥"}
_UNSEEN = {"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"}
_NARROW, _SLIM, _BROAD = (
    frozenset("ijl|'!.,:;I"),
    frozenset('frt()[]{}-/ "`°'),
    frozenset("mwMW@%—…"),
)


def visible(text: str, longest: int | None = None) -> str:
    """The text with a sign in place of every character that has none, and no longer than asked.

    Newlines and tabs become `↵` and `⇥`; control characters, direction marks, lone surrogates and
    the like become `⟨U+202E⟩`.
    """
    shown = "".join(_sign(character) for character in text[: longest and longest + 1])
    return shown if longest is None else shortened(shown, longest)


def token(text: str, longest: int) -> str:
    """A token as a cell shows it: visible, with `␣` for each space, never empty."""
    return visible(text, longest).replace(" ", "␣") or "∅"


def shortened(text: str, longest: int) -> str:
    """At most `longest` characters, the last an ellipsis where something is left out."""
    return text if len(text) <= longest else text[: max(longest - 1, 0)] + ELLIPSIS


def width(text: str, size: float = 12) -> float:
    """About how many pixels a text takes in a broad sans-serif font of this size."""
    return size * sum(map(_em, text))


def fitted(text: str, room: float, size: float = 12) -> str:
    """The text, cut with an ellipsis where it would be wider than `room` pixels."""
    if width(text, size) <= room:
        return text
    used, kept = width(ELLIPSIS, size), 0
    for character in text:
        used += size * _em(character)
        if used > room:
            break
        kept += 1
    return text[:kept] + ELLIPSIS


def lines(text: str, room: float, size: float, most: int = 3) -> Sequence[str]:
    """The text broken at spaces into at most `most` lines of `room` pixels."""
    found: list[str] = [""]
    for word in text.split(" "):
        longer = f"{found[-1]} {word}" if found[-1] else word
        if width(longer, size) <= room or not found[-1]:
            found[-1] = longer
        else:
            found.append(word)
    if len(found) > most:
        found = [*found[: most - 1], " ".join(found[most - 1 :])]
    return [fitted(line, room, size) for line in found]


def number(value: float, digits: int = 4) -> str:
    """A number in few digits, with a true minus sign."""
    text = f"{value:.{digits}g}"
    return text.replace("-", MINUS) if float(text) else "0"


def _sign(character: str) -> str:
    code = ord(character)
    if character in _PICTURES:
        return _PICTURES[character]
    if character == _JOINER or unicodedata.category(character) not in _UNSEEN:
        return character
    return f"⟨U+{code:04X}⟩"


def _em(character: str) -> float:
    """Width of a character in units of the font's size."""
    if unicodedata.combining(character) or character == _JOINER:
        return 0.0
    if unicodedata.east_asian_width(character) in "WF" or ord(character) > 0xFFFF:
        return 1.3
    for kind, ems in ((_NARROW, 0.36), (_SLIM, 0.44), (_BROAD, 1.0)):
        if character in kind:
            return ems
    return 0.72 if character.isupper() or ord(character) > 0x7F else 0.65
