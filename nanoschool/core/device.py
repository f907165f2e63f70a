"""Device: which processor, how many threads; chosen once, written into the run's config and reread.

Exact resume needs the same kernels: a run remembers `Machine` and refuses another one unless told otherwise.
"""

import os
from dataclasses import asdict, dataclass

import torch

from nanoschool.core import c
from nanoschool.core.heap import keep_freed
from nanoschool.types import UserError


@dataclass(frozen=True)
class Machine:
    """All that decides which kernels run, and so the last bits of every number."""

    device: str
    threads: int
    torch: str
    processor: str
    compiler: str  # of what is in C on a CPU

    def to_json(self) -> dict:
        return asdict(self)


def available() -> list[str]:
    """What this machine has, the fastest first."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, is_there in there.items() if is_there]


def choose(device: str = "auto", threads: int = 0) -> Machine:
    """Pick CUDA (or ROCm, which answers to the same name), then MPS, then CPU.

    0 threads: as many as OMP_NUM_THREADS says, else one for each core we may use.
    """
    there = available()
    if device != "auto" and device not in there:
        raise UserError(f"device {device!r} is not on this machine; there is {', '.join(there)} (or auto)")
    chosen = there[0] if device == "auto" else device
    if threads < 0:
        raise UserError(f"threads: {threads} is below 0; write 0 for one thread a core")
    count = threads or _allowed()
    torch.set_num_threads(count)
    if chosen == "cpu":
        keep_freed()
    capability = torch.backends.cpu.get_cpu_capability()
    name = torch.cuda.get_device_name() if chosen == "cuda" else capability
    if compute_dtype(chosen) == torch.bfloat16:
        name += ", bfloat16"
    return Machine(chosen, count, torch.__version__, name, c.compiler() if chosen == "cpu" else "")


def compute_dtype(device: str | torch.device) -> torch.dtype:
    """What a device multiplies matrices fastest in: bfloat16 where it has instructions for that, else float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if kind == "cpu" and has else torch.float32


def _allowed() -> int:
    """OMP_NUM_THREADS (its first number: "4,2" is about nested loops), else the cores that we may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
