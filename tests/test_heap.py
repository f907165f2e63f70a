"""What is freed stays with the process: the page faults of a second tensor of the same size are gone."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from nanoschool.core.heap import keep_freed
if sys.argv[1] == "keep" and not keep_freed():
    sys.exit(3)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(48_000_000 // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(6):
    faults()  # the heap grows until a block of the size is free in it
print(faults())
"""


def test_memory_that_was_freed_is_not_cleared_again():
    if sys.platform != "linux":
        pytest.skip("it is glibc that is told")
    kept, given_back = (
        subprocess.run([sys.executable, "-c", SCRIPT, word], capture_output=True, text=True)
        for word in ("keep", "give back")
    )
    assert kept.returncode == given_back.returncode == 0, kept.stderr + given_back.stderr
    assert int(kept.stdout) < int(given_back.stdout) / 10


CYCLE = """
import gc
import torch
from nanoschool.core.heap import give_back, keep_freed
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
keep_freed()
gc.disable()  # nothing but give_back collects
before = resident()
cycle = [torch.ones(1_000_000) for _ in range(100)]
cycle.append(cycle)
held = resident() - before
del cycle
give_back()
print(held, resident() - before)
"""


def test_what_nobody_can_reach_goes_back_to_the_system():
    if sys.platform != "linux":
        pytest.skip("it is glibc that is told")
    told = subprocess.run([sys.executable, "-c", CYCLE], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    held, left = map(int, told.stdout.split())
    assert held > 300e6 and left < 60e6
