"""What the figures come from: a processor, its threads, and the versions of everything timed."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import cpuinfo  # type: ignore[import-untyped]  # ships no types
import torch

TIMED = ("torch", "transformer-lens", "transformers", "nnsight")


def machine(device: str) -> dict[str, str]:
    """The machine in words."""
    processor = str(cpuinfo.get_cpu_info().get("brand_raw", platform.machine()))
    threads = torch.get_num_threads()
    found = {
        "processor": f"{processor}, {os.cpu_count()} cores",
        "threads": f"{threads} thread{'s' if threads > 1 else ''}",
    }
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    found["Python"] = platform.python_version()
    return {**found, **{name: _version(name) for name in TIMED}}


def in_words(found: dict[str, str]) -> str:
    """One line: bare what describes the hardware, with its name what has a version."""
    bare = ("processor", "threads", "gpu")
    hardware = [found[name] for name in bare if name in found]
    return ", ".join([*hardware, *(f"{n} {v}" for n, v in found.items() if n not in bare)])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
