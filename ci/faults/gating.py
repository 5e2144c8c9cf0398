"""The gate of many results, in a process that does nothing else.

    python -m claimlens.ci.faults.gating FOLDER

prints as JSON what it took: the run `new/` of FOLDER is in memory, as at the end of pytest; the
baseline and the run `old/` are loaded. Processor time, which other programs disturb least.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from claimlens.ci.gate_run import Gate
from claimlens.ci.measuring_again import Again
from claimlens.ci.run_files import read_run


def main(folder: Path) -> None:
    """Gate `new/` against `old/` and print what it took."""
    (new,) = (folder / "new").glob("*.jsonl")
    run = read_run(new)
    began = time.process_time()
    again = Again((), folder, folder / "old")
    gate = Gate(folder / "baselines", folder / "old", again, lambda text: None)
    result = gate.result("default", run.records, run.prompts)
    paired = sum(bool(finding.changes) for finding in result.findings)
    found = {
        "seconds": time.process_time() - began,
        "megabytes": _peak_kilobytes() * 1024 / 1e6,
        "outcome": f"{result.decision.name}, {paired:,} findings paired",
    }
    print(json.dumps(found))


def _peak_kilobytes() -> int:
    """The most memory that this process has held; `ru_maxrss` would count what started it, too."""
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
