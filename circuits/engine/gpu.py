"""Whether a kernel of ours runs on this GPU: Triton comes with torch's builds for GPUs, and needs a
compiler."""

from __future__ import annotations

from functools import cache
from subprocess import SubprocessError

import torch

from claimlens.circuits.engine.policy import policy


def fuses(sweep: str, device: torch.device, dtype: torch.dtype, d_head: int, ways: int) -> bool:
    """Whether the sums of `triton_losses` are made there: in float32 on a GPU.

    Where they would be, and Triton does not run, the way of the sweep says so.
    """
    if device.type != "cuda" or dtype != torch.float32:
        return False
    if why := missing(str(device), d_head, ways):
        policy().went(sweep, f"engine: without a kernel of Triton, which is slower ({why})")
    return not why


@cache
def missing(device: str, d_head: int, ways: int) -> str:
    """Why Triton makes no kernel of this size here, tried once; empty where it does."""
    try:
        from triton.errors import TritonError  # type: ignore[import-not-found]

        from claimlens.circuits.engine.triton_losses import Sums, through
    except ImportError as reason:
        return str(reason)
    z, p = torch.zeros(1, 1, 1, d_head, device=device), torch.zeros(1, 1, 1, ways, device=device)
    unembed, bits = torch.zeros(1, 1, device=device), torch.zeros(1, 1, 1, device=device)
    try:
        written = through([z[0].mT], unembed, 1, d_head)
        Sums.of(z, p, p[0].mT).logs(bits, unembed, written)
    except (OSError, RuntimeError, SubprocessError, TritonError) as reason:
        said = str(reason).strip().splitlines() or [""]
        return f"{type(reason).__name__}: {said[0]}"
    return ""
