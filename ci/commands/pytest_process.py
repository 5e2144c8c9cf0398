"""pytest in a process of its own, as anybody would call it, and the line that says how."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from claimlens.ci.commands.options import say

PACKAGE = "claimlens"


def all_claims() -> list[str]:
    """The claims of the folder one stands in, or those that claimlens brings along."""
    return ["claims"] if Path("claims").is_dir() else ["--pyargs", f"{PACKAGE}.claims"]


def with_models(arguments: Sequence[str], models: Sequence[str]) -> list[str]:
    """Arguments of pytest that ask for these models."""
    named = [word for model in models for word in ("--claims-model", model)]
    return [*arguments, *named]


def run_pytest(arguments: Sequence[str]) -> int:
    """Say the plain pytest command, run it, and return its exit code."""
    say(f"$ pytest {shlex.join(arguments)}")
    sys.stdout.flush()
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode
