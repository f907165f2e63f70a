"""ceilings: what this machine does at best in a second, measured: multiply matrices, copy memory; and what is being used."""

import ctypes
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from nanoschool.core.linear import linear

# of the matrices that are multiplied, and bytes of what is copied, more than any cache holds; on CUDA so much that a launch
# is nothing beside it
SIDE, COPIED = {"cuda": 8192}, {"cuda": 2**31}
SIDE_ELSEWHERE, COPIED_ELSEWHERE = 2048, 2**27
GOES = 5  # the fastest counts
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux


@dataclass(frozen=True)
class Ceilings:
    flops: dict[torch.dtype, float]  # a second, in a product of matrices
    bandwidth: float  # bytes read and written a second

    def share(self, dtype: torch.dtype, flops: float, moved: float, seconds: float) -> tuple[float, str]:
        """(the least time that this work can take over the time it took, what binds): "FLOPs" or "bytes"."""
        computing, moving = flops / self.flops[dtype], moved / self.bandwidth
        return max(computing, moving) / seconds, "FLOPs" if computing >= moving else "bytes"


def ceilings(device: str) -> Ceilings:
    flops, kind = {}, device.partition(":")[0]
    side, copied = SIDE.get(kind, SIDE_ELSEWHERE), COPIED.get(kind, COPIED_ELSEWHERE)
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            a, b = torch.randn(2, side, side, device=device).to(dtype)
            flops[dtype] = 2 * side**3 / _fastest(lambda a=a, b=b: linear(a, b), device)
        source = torch.zeros(copied // 4, device=device)
        target = torch.empty_like(source)
        return Ceilings(flops, 2 * copied / _fastest(lambda: target.copy_(source), device))


def synchronise(device: str) -> None:
    """Wait for what was asked of an accelerator."""
    if not device.startswith("cpu"):
        torch.accelerator.synchronize()


def forget_peak(device: str) -> None:
    """Let `peak_memory` begin anew."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    elif CLEAR.exists():
        ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system, and counts no more
        CLEAR.write_text("5")


def peak_memory(device: str) -> int | None:
    """Bytes at most since `forget_peak`: what torch holds on a GPU, else the whole process; None where no system tells."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    if not STATUS.exists():
        return None
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _fastest(work: Callable[[], object], device: str) -> float:
    """Seconds of the fastest of a few goes, after one that does not count."""
    times = []
    for _ in range(GOES + 1):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])
