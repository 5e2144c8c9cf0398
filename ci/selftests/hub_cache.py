"""Hub caches as huggingface_hub lays them out, made from local directories; no network."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from claimlens.fixtures.directories import sha256_of


def git_sha1(file: Path) -> str:
    """What a hub names a small file's content by."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def put(cache: Path, name: str, source: Path, revision: str, branch: str = "") -> Path:
    """Lay a directory into a hub cache; large files by SHA-256, small ones by git's SHA-1."""
    home = cache / f"models--{name.replace('/', '--')}"
    snapshot = home / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir(exist_ok=True)
    for file in source.iterdir():
        blob = sha256_of(file) if file.suffix == ".safetensors" else git_sha1(file)
        shutil.copy(file, home / "blobs" / blob)
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", blob))
    if branch:
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / branch).write_text(revision)
    return snapshot
