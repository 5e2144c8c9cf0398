"""docs/errors.md: the errors that a user may see, in the words that each was provoked to say.

python -m claimlens.ci.selftests.errors_page
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from claimlens.ci.selftests.errors.entry import Entry, Provoked, provoked
from claimlens.ci.selftests.errors.sites import ROOT, Site, sites

PAGE = ROOT / "docs" / "errors.md"
NOT_PROVOKED = Path(__file__).with_name("errors") / "not_provoked.txt"
TODO = "no entry yet"
AREAS = {
    "models": "Models",
    "marks": "Marks of a claim",
    "options": "Options",
    "figures": "Figures",
    "baselines": "Baselines and the gate",
    "store": "Stored runs",
    "events": "Model updates: sweeps, revisions, events",
    "commands": "The command line, and pictures",
    "stored_data": "Stored data, prompts and numbers",
    "measurements": "Measurements and their comparison",
    "kernels": "Arguments of kernels",
    "engine": "The engine",
    "edits": "Ablations, patches, paths and injections",
    "heads": "Heads and their weights",
    "latents": "SAEs and their latents",
    "predictions": "Text, tokens and training",
}


def entries(area: str) -> Sequence[Entry]:
    """The entries of one area."""
    found: Sequence[Entry] = import_module(f"claimlens.ci.selftests.errors.{area}").ENTRIES
    return found


def collected(known: Sequence[Site]) -> dict[str, list[Provoked]]:
    """What the entries of every area provoke."""
    return {area: [provoked(entry, known) for entry in entries(area)] for area in AREAS}


def reasons(text: str) -> dict[str, str]:
    """Why each site that no entry provokes has none: lines under a `# reason`."""
    found: dict[str, str] = {}
    reason = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            reason = line.removeprefix("#").strip()
        else:
            found[line] = reason
    return found


def faults(known: Iterable[Site], met: Iterable[Provoked], listed: Mapping[str, str]) -> list[str]:
    """Sites without entry and reason, reasons of provoked sites, reasons of none."""
    names, have = {str(site) for site in known}, {str(one.site) for one in met}
    return [
        *(f"{name}: no entry and no reason" for name in sorted(names - have - set(listed))),
        *(f"{name}: provoked, and listed as not" for name in sorted(have & set(listed))),
        *(f"{name}: listed, and no such site" for name in sorted(set(listed) - names)),
        *(f"{name}: listed without a reason" for name, why in listed.items() if not why),
    ]


def page(met: Mapping[str, Sequence[Provoked]], listed: Mapping[str, str]) -> str:
    """The whole page."""
    shown = [line for area, found in met.items() for line in _section(AREAS[area], found)]
    return "\n".join([*_HEAD, *shown, *_counts(met, listed), ""])


def _section(title: str, met: Sequence[Provoked]) -> list[str]:
    return ["", f"## {title}", *(line for one in met for line in _told(one))]


def _told(one: Provoked) -> list[str]:
    lines = [f"    {line}" for line in one.message.splitlines()]
    mend = ["", one.mend] if one.mend else []
    where = f"`{one.exception}`, from `{one.site.function}` of `{one.site.file}`:"
    return ["", where, "", *lines, *mend]


def _counts(met: Mapping[str, Sequence[Provoked]], listed: Mapping[str, str]) -> list[str]:
    number = len({str(one.site) for found in met.values() for one in found})
    return [
        "",
        "## Not on this page",
        "",
        f"{number} of the {number + len(listed)} places that raise are above. The others are "
        "listed with a reason each in `ci/selftests/errors/not_provoked.txt`; "
        f"{sum(why == TODO for why in listed.values())} of them wait for an entry.",
    ]


_HEAD = """# Errors

What claimlens says when something is wrong, each message as a test provoked it; FOLDER stands for
a folder of yours. A line under a message says how to mend it where the message does not.
`NotMeasured` and `NotApplicable` are no errors of a run: they are the reasons of claims without a
verdict. Written by `python -m claimlens.ci.selftests.errors_page`.""".splitlines()


def write() -> None:
    """Writes the page anew."""
    listed = reasons(NOT_PROVOKED.read_text(encoding="utf-8"))
    PAGE.write_text(page(collected(sites()), listed), encoding="utf-8")


if __name__ == "__main__":
    write()
