"""peers: nanoschool's speed beside transformers' and TRL's, in one run: `pip install -e .[bench] && python bench/peers.py`.

A Markdown table, a row at a time, for RESULTS.md.
"""

import argparse
import platform
import sys
import time
from datetime import date
from pathlib import Path

import torch
import transformers
import trl

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import grpo, sampling, training
from bench.duel import table
from nanoschool.core import device

PARTS = {"sampling": sampling.duels, "training": training.duels, "grpo": grpo.duels}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument(
        "parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; all unless named"
    )
    asked.add_argument("--rounds", type=int, default=5, help="goes of each side")
    asked.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: this process's own time, for one thread on a machine that others use",
    )
    options = asked.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        asked.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    device.choose("cpu", options.threads)  # for both sides
    processor = f"{platform.processor() or platform.machine()} ({torch.backends.cpu.get_cpu_capability()})"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, "
    versions += f"transformers {transformers.__version__}, TRL {trl.__version__}"
    print(f"{date.today()}, {processor}, {options.threads} threads, {options.clock} clock, {versions}\n")
    for name in options.parts:
        table(PARTS[name](), options.rounds, CLOCKS[options.clock], lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
