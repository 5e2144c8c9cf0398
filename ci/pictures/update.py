"""A report of a real update of the shipped model: its heads in another order.

    python -m claimlens.ci.pictures.update FOLDER

makes the update, gates it, and writes `FOLDER/report`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from claimlens.ci.faults import model_updates
from claimlens.ci.faults.forked import STORE, import_all
from claimlens.ci.report.make import make_report
from claimlens.ci.run_files import run_files

CASE = "heads in another order"


def main(folder: Path) -> None:
    """Raises RuntimeError where the gate does not decide as it must."""
    import_all()
    home = model_updates.begin(folder / "update", seed=0)
    case = model_updates.CASES[CASE]
    code, output = model_updates.update(home, case, seed=0)
    if code != case.code:
        raise RuntimeError(f"the gate ended with {code}:\n{output[-3000:]}")
    made = make_report(run_files(home / STORE), folder / "report", home / "baselines")
    print(made.told)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
