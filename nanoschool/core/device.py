"""Device: which processor, how many threads; chosen once, written into the run's config and reread.

Exact resume needs the same kernels: a run remembers `Machine` and refuses another one unless told otherwise.
"""

import os
from dataclasses import asdict, dataclass

import torch

from nanoschool.types import UserError


@dataclass(frozen=True)
class Machine:
    """All that decides which kernels run, and so the last bits of every number."""

    device: str
    threads: int
    torch: str
    processor: str

    def to_json(self) -> dict:
        return asdict(self)


def choose(device: str = "auto", threads: int = 0) -> Machine:
    """Pick CUDA (or ROCm, which answers to the same name), then MPS, then CPU; 0 threads: one for each core we may use."""
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    if device != "auto" and device not in there:
        raise UserError(f"device {device!r} is not on this machine; there is {', '.join(there)} (or auto)")
    chosen = there[0] if device == "auto" else device
    if threads < 0:
        raise UserError(f"threads: {threads} is below 0; write 0 for one thread a core")
    count = (
        threads or len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else threads or os.cpu_count() or 1
    )
    torch.set_num_threads(count)
    capability = torch.backends.cpu.get_cpu_capability()
    name = torch.cuda.get_device_name() if chosen == "cuda" else f"{capability}"
    return Machine(chosen, count, torch.__version__, name)
