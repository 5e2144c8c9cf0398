"""`claimlens completion`."""

from __future__ import annotations

import argparse

from claimlens.ci.commands.options import Commands, add_command

SHELLS = ("bash", "zsh", "tcsh")


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    examples = ("completion bash > ~/.local/share/bash-completion/completions/claimlens",)
    told = "print what a shell needs to complete these commands"
    add_command(commands, "completion", told, examples, run).add_argument("shell", choices=SHELLS)


def run(given: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    print(shtab.complete(given.parser(), given.shell))
    return 0
