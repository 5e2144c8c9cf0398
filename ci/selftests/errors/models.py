"""Models that cannot be found, or not be loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from claimlens.ci.selftests.errors.entry import Entry
from claimlens.fixtures.directories import check_checksums, check_directory, read_roles
from claimlens.fixtures.hub import HubName
from claimlens.fixtures.loading import check_device
from claimlens.fixtures.names import check_name
from claimlens.fixtures.sae import read_sae


def _with(
    call: Callable[[Path], object], weights: float | None = None, **files: str
) -> Callable[[Path], object]:
    """`call` on a folder with these files; `__` in a keyword stands for a point."""

    def made(folder: Path) -> object:
        if weights is not None:
            save_file({"wte": torch.tensor([weights])}, folder / "model.safetensors")
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
        return call(folder)

    return made


def _sae(**cfg: object) -> Callable[[Path], object]:
    return _with(lambda folder: read_sae(folder, "cpu"), cfg__json=json.dumps(cfg))


_WHOLE: dict[str, Any] = {"config__json": "{}", "tokenizer_config__json": "{}"}

ENTRIES = (
    Entry(lambda _: HubName.parse("org/name/more")),
    Entry(lambda _: check_name("defualt")),
    Entry(lambda _: check_name("planted:no_heads")),
    Entry(lambda folder: check_directory(folder / "gpt2")),
    Entry(check_directory),
    Entry(_with(check_directory, pytorch_model__bin="")),
    Entry(_with(check_directory, weights=1.0)),
    Entry(_with(check_directory, weights=float("nan"), **_WHOLE)),
    Entry(_with(check_directory, model__safetensors="cut", **_WHOLE)),
    Entry(_with(check_checksums, SHA256SUMS="0  model.safetensors\n")),
    Entry(_with(check_checksums, SHA256SUMS="0  config.json\n", config__json="{}")),
    Entry(_with(read_roles, roles__json="{")),
    Entry(_with(read_roles, roles__json="{}")),
    Entry(_with(read_roles, roles__json='{"roles": {"ioi/mover": ["9.9"]}}')),
    Entry(lambda _: check_device("gpu")),
    Entry(lambda _: check_device("cpu:1")),
    Entry(lambda folder: read_sae(folder / "sae", "cpu")),
    Entry(lambda folder: read_sae(folder, "cpu")),
    Entry(_sae(architecture="mystery")),
)
