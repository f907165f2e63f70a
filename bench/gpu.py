"""gpu: what is asked of one GPU, measured in one go: `python bench/gpu.py`, under nine minutes, no network.

First that what it samples there is right, then how fast: rows of a Markdown table for RESULTS.md. What belongs together runs
in a process of its own: a kernel that fails takes its process along, and no more.
"""

import multiprocessing
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.agreement import CLOSE, kernel_is_right, steps_are_right
from bench.rig import HEAD, Plan, Rig
from bench.speed import decode, grpo, kernel, rates, training
from nanoschool.core import device
from nanoschool.core.sampling import Sampling
from nanoschool.lab.ceilings import forget_peak

LONGEST, ALL = 260, 530  # seconds of a group of sections, and of all
Section = Callable[[Rig], None]
Group = Callable[[Plan], Iterator[Section]]


def agreement(plan: Plan) -> Iterator[Section]:
    best = plan.steps[0]
    if best == "graphed":
        yield kernel_is_right
    yield partial(steps_are_right, depth=2, sampling=Sampling(steps="eager"), temperature=1.0)
    for temperature in (1.0, 0.0):
        yield partial(steps_are_right, depth=2, sampling=Sampling(steps=best), temperature=temperature)
    for dtype in CLOSE:
        yield partial(steps_are_right, depth=plan.depths[0], sampling=Sampling(dtype, best), temperature=1.0)


def fitting(plan: Plan) -> Iterator[Section]:
    yield rates
    for depth in plan.depths:
        yield partial(training, depth=depth)


def sampling(plan: Plan) -> Iterator[Section]:
    yield partial(decode, steps=plan.steps[0])
    yield partial(grpo, steps=plan.steps[0])


def choices(plan: Plan) -> Iterator[Section]:
    """What might be done otherwise."""
    if "graphed" in plan.steps:
        yield kernel
    for steps in plan.steps[1:]:
        yield partial(decode, steps=steps)


GROUPS = (agreement, fitting, sampling, choices)


def run(group: Group, plan: Plan, show: Callable[[str], None]) -> int:
    """Its sections, whatever becomes of one; how many failed."""
    rig, failed = Rig(plan, show), 0
    for section in group(plan):
        try:
            section(rig)
        except Exception:  # what else there is to know is worth more than a clean end
            failed += 1
            show(f"\n{section} failed:\n{traceback.format_exc()}")
        forget_peak(plan.device)  # and the caches of sessions
    return failed


def in_a_process(group: Group) -> None:
    device.choose("cuda")
    sys.exit(run(group, Plan(), partial(print, flush=True)))


def main() -> int:
    if "cuda" not in device.available():
        print("bench/gpu.py needs a CUDA GPU, and there is none on this machine", file=sys.stderr)
        return 2
    machine = device.choose("cuda")
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, CUDA {torch.version.cuda}"
    print(f"`python bench/gpu.py`; {date.today()}, {machine.processor}, {versions}\n\n{HEAD}", flush=True)
    start, failed = time.perf_counter(), []
    for group in GROUPS:
        process = multiprocessing.get_context("spawn").Process(target=in_a_process, args=(group,))
        process.start()
        process.join(max(1.0, min(LONGEST, ALL - (time.perf_counter() - start))))
        if process.is_alive():
            process.kill()
            process.join()
        if process.exitcode:
            failed.append(group.__name__)
    print(f"\n{time.perf_counter() - start:.0f} s; failed or cut off: {', '.join(failed) or 'nothing'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
