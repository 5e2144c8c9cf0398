"""The report of a store: every run that can be read, and what is said of those that can't."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from claimlens.ci.baseline import BadBaseline, Baseline, baseline_path
from claimlens.ci.progress import progress
from claimlens.ci.report.overview import Baselines
from claimlens.ci.report.pages import Written, write_report
from claimlens.ci.report.study import Study
from claimlens.ci.run_files import NoRun, StoredRun, read_run


def make_report(files: Sequence[Path], folder: Path, baselines: Path) -> Written:
    """Write the report of some run files, oldest first, into a folder; raises OSError.

    A file that cannot be read, and a baseline that is damaged, are said on the first page.
    """
    runs, faults = list[StoredRun](), list[str]()
    for file in progress(files, "reading runs"):
        try:
            runs.append(read_run(file))
        except NoRun as error:
            faults.append(str(error))
    models = {model for run in runs for model in run.models}
    known = _baselines(sorted(models), baselines, faults)
    return write_report(folder, Study.of(runs, faults), known)


def _baselines(models: Sequence[str], folder: Path, faults: list[str]) -> Baselines:
    """The baseline of each model that has one."""
    found = dict[str, Baseline]()
    for model in models:
        if not baseline_path(folder, model).is_file():
            continue
        try:
            found[model.partition("@")[0]] = Baseline.of(folder, model)
        except BadBaseline as error:
            faults.append(str(error))
    return found
