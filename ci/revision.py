"""Which commit a model's name means now, and whether the baseline holds it: asked before a gate."""

from __future__ import annotations

import re
from pathlib import Path

from claimlens.ci.baseline import Baseline, baseline_path
from claimlens.ci.model_names import is_hash, is_local
from claimlens.ci.plain_text import shown_line

SECONDS = 30.0
"""How long the hub may take to answer."""
LONGEST = 200
"""Characters of a name; the hub's own are shorter."""
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")


class NoRevision(ValueError):
    """A name that means no commit, or of which it cannot be said; the message says what to do."""


def at_commit(name: str, folder: Path, accepted: str = "compare") -> tuple[str, str]:
    """The model at its commit, as `org/name@<40 hex>`, and a sentence about the baseline.

    `accepted` says what becomes of the accepted revision, the one that the baseline in `folder`
    holds: `compare` takes it as any other, `skip` gives "" in its place, `only` gives it without
    asking the hub. A model of this machine has no commits: its name is given back.
    Raises NoRevision, and BadBaseline where the baseline is needed and cannot be read.
    """
    repository, revision = parsed(name)
    if is_local(name):
        return name, f"{name} is a model of this machine, and has no revisions"
    held = accepted_revision(folder, repository)
    if accepted == "only":
        if revision:
            raise NoRevision(
                f"{shown_line(name)} names a revision, and --accepted only asks for the accepted "
                f"one; say {repository}"
            )
        if not is_hash(held):
            path = baseline_path(folder, repository)
            raise NoRevision(
                f"no revision of {repository} is accepted: {path} is missing, or holds no commit"
            )
        return f"{repository}@{held}", f"{held} is the accepted revision"
    commit = revision if is_hash(revision) else resolve(repository, revision)
    if commit != held:
        told = f"the baseline holds {held}" if held else "there is no baseline of it"
        return f"{repository}@{commit}", f"{commit} is not accepted: {told}"
    told = f"{commit} is the accepted revision"
    return ("", f"{told}: nothing to do") if accepted == "skip" else (f"{repository}@{held}", told)


def accepted_revision(folder: Path, repository: str) -> str:
    """The revision that the baseline holds; "" where there is none. Raises BadBaseline."""
    if not baseline_path(folder, repository).exists():
        return ""
    return Baseline.of(folder, repository).revision


def parsed(name: str) -> tuple[str, str]:
    """The repository and the revision, "" for the main branch; raises NoRevision.

    A model of this machine is its whole name.
    """
    if not name.isprintable() or len(name) > LONGEST:
        raise _no_name(name)
    if is_local(name):
        return name, ""
    repository, at, revision = name.partition("@")
    if ".." in name or (at and not _REVISION.fullmatch(revision)):
        raise _no_name(name)
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # not listed

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise _no_name(name) from error
    return repository, revision


def resolve(repository: str, revision: str) -> str:
    """The commit that the hub gives for a branch or tag, or its main branch; raises NoRevision."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is not listed
        HTTPError,  # of httpx, or of what a newer hub library has in its place
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = HfApi().model_info(repository, revision=revision or None, timeout=SECONDS).sha
    except RepositoryNotFoundError as error:
        raise NoRevision(
            f"the hub shows no model {repository}: check the name; a private or gated one needs "
            "HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise NoRevision(
            f"{repository} has no revision {revision}; name a branch, a tag or 40 hex"
        ) from error
    except (HTTPError, OSError, ValueError, TypeError) as error:  # the last two: no JSON object
        raise NoRevision(
            f"the hub gave no answer about {repository} ({type(error).__name__}); check the "
            "network, or name a commit: org/name@<40 hex>"
        ) from error
    if not isinstance(found, str) or not is_hash(found):
        raise NoRevision(f"the hub named no commit of {repository}, but {found!r:.60}")
    return found


def _no_name(name: str) -> NoRevision:
    shown = shown_line(name[:80]) + ("…" if len(name) > 80 else "")
    return NoRevision(f"'{shown}' is no model name; expected org/name or org/name@revision")
