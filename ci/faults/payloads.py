"""Pickles that run code when they are read, put in place of every file that the product reads."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from claimlens.ci import cli
from claimlens.ci.baseline import BadBaseline, Baseline
from claimlens.ci.faults import suite
from claimlens.ci.faults.count import Count
from claimlens.ci.faults.forked import run
from claimlens.circuits.verdict import NotMeasured
from claimlens.fixtures.names import DEFAULT_DIRECTORY
from claimlens.fixtures.results import SUFFIX
from claimlens.fixtures.sae import read_sae

EXECUTED, DEAD = "payloads executed", "payloads that do nothing when they are unpickled"
RESULTS = """
@pytest.mark.claim("cut/kept", kind="identity", source="here")
def test_kept(model, ioi, measure, results):
    \"\"\"A result that is kept.\"\"\"
    assert measure(lambda p: results.measure(logit_diff, model, p.clean), on=ioi, unit="x") >= -100
"""


class Payload:
    """Opens a file for writing when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


def payloads(folder: Path) -> Count:
    """Two kinds of pickle in each of ten places, read by the product."""
    count = Count(
        "payloads",
        "a pickle that runs code, in place of weights, configuration, roles, SAE, kept results, "
        "runs, baselines, texts and lists of models",
    )
    count.must_not(EXECUTED, DEAD)
    folder.mkdir(parents=True)
    model, marker = suite.write_model(folder / "model"), folder / "executed"
    tries = [(place, kind) for place in PLACES for kind in KINDS]
    for number, (place, kind) in enumerate(track(tries, "payloads")):
        data = KINDS[kind](Payload(marker))
        if not executes(data, kind, marker):
            count.happened(DEAD)
        home = suite.write(folder / f"payload-{number}", model)
        PLACES[place](home, data)
        count.happened(EXECUTED, int(marker.exists()))
        marker.unlink(missing_ok=True)
        shutil.rmtree(home)
        count.tried += 1
    count.facts["places"] = ", ".join(PLACES)
    return count


def executes(data: bytes, kind: str, marker: Path) -> bool:
    """Whether a payload does what it is for, read by what trusts it; its mark is taken away."""
    with suppress(pickle.UnpicklingError):
        if kind == "torch.save":
            torch.load(BytesIO(data), weights_only=False)
        else:
            pickle.loads(data)
    found = marker.exists()
    marker.unlink(missing_ok=True)
    return found


def _saved(payload: Payload) -> bytes:
    file = BytesIO()
    torch.save({"weight": payload}, file)
    return file.getvalue()


def _in_model(name: str, *, alone: bool = False) -> Callable[[Path, bytes], None]:
    """In the model's directory; alone, in place of its weights."""

    def place(home: Path, data: bytes) -> None:
        if alone:
            (home / "model" / "model.safetensors").unlink()
        (home / "model" / name).write_bytes(data)
        run(home, suite.MODEL)

    return place


def _sae(home: Path, data: bytes) -> None:
    target = home / "sae"
    shutil.copytree(DEFAULT_DIRECTORY / "sae", target)
    for file in target.glob("*.safetensors"):
        file.write_bytes(data)
    with suppress(NotMeasured, ValueError, OSError):
        read_sae(target, "cpu")


def _kept(home: Path, data: bytes) -> None:
    with (home / "test_cut.py").open("a") as file:
        file.write(RESULTS)
    options = (suite.MODEL, "--claims-results=kept", "-k", "kept")
    run(home, *options)
    kept = [*(home / "kept").glob(f"*{SUFFIX}")]
    if not kept:
        raise RuntimeError("no result was kept that a payload could replace")
    for each in kept:
        each.write_bytes(data)
    run(home, *options)


def _store(home: Path, data: bytes) -> None:
    path = home / "runs" / "20260101T000000Z-00ff00ff.jsonl"
    path.parent.mkdir()
    path.write_bytes(data)
    for command in (["runs", "--store", str(path.parent)], ["recover", str(path)]):
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            cli.main(command)
    run(home, suite.MODEL, "--claims-resume=latest")


def _baseline(home: Path, data: bytes) -> None:
    path = home / "model.json"
    path.write_bytes(data)
    with suppress(BadBaseline):
        Baseline.load(path)


def _text(home: Path, data: bytes) -> None:
    (home / "text.txt").write_bytes(data)
    run(home, suite.MODEL, "--claims-text=text.txt")


def _models(home: Path, data: bytes) -> None:
    (home / "models.txt").write_bytes(data)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        cli.main(["sweep", "--models", str(home / "models.txt"), "--store", str(home / "swept")])


KINDS: Mapping[str, Callable[[Payload], bytes]] = {
    "pickle": lambda payload: pickle.dumps(payload, protocol=2),
    "torch.save": _saved,
}
PLACES: Mapping[str, Callable[[Path, bytes], None]] = {
    "pytorch_model.bin": _in_model("pytorch_model.bin", alone=True),
    "model.safetensors": _in_model("model.safetensors"),
    "config.json": _in_model("config.json"),
    "roles.json": _in_model("roles.json"),
    "SAE": _sae,
    "kept results": _kept,
    "run file": _store,
    "baseline": _baseline,
    "text": _text,
    "list of models": _models,
}
