"""What a model's name alone says: whether it is of this machine, and whether it names a commit."""

from __future__ import annotations

import re

SHIPPED = ("default", "planted")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_local(model: str) -> bool:
    """Whether a model is of this machine, and its name means what lies there now."""
    return model.startswith((".", "/", "~")) or re.split("[:@]", model)[0] in SHIPPED


def is_commit(model: str) -> bool:
    """Whether a hub model is named at a commit, which never means something else later."""
    return is_hash(model.partition("@")[2].partition(":")[0])


def is_hash(text: str) -> bool:
    """Whether a text is a commit's whole hash: 40 hex in lower case, and nothing else."""
    return bool(_COMMIT.fullmatch(text))
