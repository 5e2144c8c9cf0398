"""The file of a claim's page, whatever its id contains."""

from __future__ import annotations

import hashlib
import re

FOLDER, LONGEST = "claims", 80
_WORD = "[a-z0-9]+(?:-[a-z0-9]+)*"
_PLAIN = re.compile(f"{_WORD}/{_WORD}")


def page_of(claim: str) -> str:
    """`claims/topic--name.html`; any other id has a digest in it. No two ids have the same."""
    if len(claim) <= LONGEST and _PLAIN.fullmatch(claim):
        return f"{FOLDER}/{claim.replace('/', '--')}.html"
    plain = re.sub(r"[^a-z0-9._]+", "-", claim.lower()).strip("-.")[:LONGEST]
    digest = hashlib.sha256(claim.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{FOLDER}/{plain or 'claim'}-{digest}.html"


def anchor_of(model: str, head: str | None) -> str:
    """The anchor of a result in its claim's page."""
    return hashlib.sha256(f"{model} {head}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
