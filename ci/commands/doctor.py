"""`claimlens doctor`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from claimlens.ci.commands.options import Commands, add_command, add_json, add_store, say
from claimlens.ci.health import FAULT, Finding, examined


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Its options."""
    told = "look at what claimlens needs: versions, plugins, devices, the store"
    more = "The exit code is 1 where there is a fault, else 0."
    parser = add_command(commands, "doctor", told, ("doctor", "doctor --json"), run, more)
    add_store(parser)
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """A line for each thing that was looked at."""
    found = list(examined(given.store))
    if given.json:
        print(json.dumps([asdict(finding) for finding in found]))
    else:
        _print(found)
    return int(any(finding.state == FAULT for finding in found))


def _print(found: Sequence[Finding]) -> None:
    for finding in found:
        mend = f"; {finding.mend}" if finding.mend else ""
        say(f"{finding.state:<8} {finding.what}: {finding.told}{mend}")
