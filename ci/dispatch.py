"""An event from outside that asks for a gate: checked before anything is done with it."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claimlens.ci.model_names import is_hash, is_local
from claimlens.ci.plain_text import shown_line
from claimlens.ci.revision import NoRevision, accepted_revision, parsed

FIELDS = ("model", "revision", "secret")
SHORTEST = 16
"""Characters of a secret; less could be guessed."""


class BadEvent(ValueError):
    """An event that is not to be followed; the message says why, and holds no secret."""


@dataclass(frozen=True)
class Event:
    """What somebody asks for: this model at this revision, and how they show that they may."""

    model: str
    revision: str
    secret: str = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Event:
        """Read an event's JSON: three texts, or an object that holds them as `client_payload`.

        Raises BadEvent.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BadEvent(f"{path} holds no event: {type(error).__name__}") from error
        if isinstance(found, dict) and "client_payload" in found:
            found = found["client_payload"]
        if not isinstance(found, dict) or any(not isinstance(found.get(n), str) for n in FIELDS):
            raise BadEvent(f"the event needs three texts: {', '.join(FIELDS)}")
        return cls(**{name: found[name] for name in FIELDS})


def asked_for(path: Path, secret: str, folder: Path) -> str:
    """The model that an event may have compared, as `org/name@<40 hex>`.

    `secret` is what both sides know, `folder` where the baselines are. Raises BadEvent, and
    BadBaseline where a baseline cannot be read.
    """
    event = Event.read(path)
    given, kept = (s.encode("utf-8", "surrogatepass") for s in (event.secret, secret))
    if not hmac.compare_digest(given, kept):
        raise BadEvent("the event's secret is not the one that is kept here")
    if not is_hash(event.revision):
        raise BadEvent(f"{_shown(event.revision)} is no revision; expected 40 hex in lower case")
    try:
        repository, revision = parsed(event.model)
    except NoRevision as error:
        raise BadEvent(str(error)) from error
    local = is_local(repository)
    if local or revision or not is_hash(accepted_revision(folder, repository)):
        raise BadEvent(
            f"{_shown(event.model)} is none of the hub models that have a baseline in {folder}"
        )
    return f"{repository}@{event.revision}"


def secret_of(name: str, environment: Mapping[str, str]) -> str:
    """The secret in an environment variable. Raises BadEvent where none is set, or a short one."""
    found: Any = environment.get(name, "")
    if len(found) < SHORTEST:
        raise BadEvent(
            f"the environment variable {name} holds no secret of at least {SHORTEST} characters; "
            "set it from the repository's secrets"
        )
    return str(found)


def _shown(text: str) -> str:
    return f"'{shown_line(text[:80])}{'…' if len(text) > 80 else ''}'"
