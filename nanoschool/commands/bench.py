"""bench: `nanoschool bench`, how fast this machine trains, reads and writes, and how near to what it can do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanoschool.options import parse

if TYPE_CHECKING:
    from nanoschool.lab.bench import Measured

HEAD = ("work", "size", "parameters", "rows", "context", "dtype", "tokens/s", "of its ceiling", "peak memory")
WIDTHS = (8, 11, 10, 4, 7, 8, 9, 14, 12, 24)  # and of the growth beside them


@dataclass(frozen=True)
class Bench:
    """Measure training, prefill and decode at three sizes against this machine's ceilings; under two minutes."""

    device: str = "auto"  # auto, cpu, cuda or mps
    threads: int = 0  # 0: as many as OMP_NUM_THREADS says, else as the machine has


def bench(args: Sequence[str]) -> int:
    """bench         this machine's speed: training, prefill and decode, beside what it can do at best"""
    options = parse(Bench(), args, "nanoschool bench")
    from nanoschool.core import device
    from nanoschool.lab import bench as lab
    from nanoschool.lab.ceilings import ceilings

    machine = device.choose(options.device, options.threads)
    limits = ceilings(machine.device)
    print(f"{machine.device}, {machine.processor}, {machine.threads} threads, torch {machine.torch}")
    for dtype, flops in limits.flops.items():
        print(f"{_name(dtype)} products of matrices: {flops / 1e9:,.0f} GFLOP/s")
    print(f"copying: {limits.bandwidth / 1e9:,.1f} GB/s\n", flush=True)
    tokenizer, base = lab.tokenizer(), {}
    _line(HEAD)
    for work in lab.WORKS:
        for subject in lab.sizes():
            base[subject.config, work] = found = lab.measure(work, subject, tokenizer, machine.device, limits)
            _line(_cells(found))
    middle = lab.sizes()[1]
    print(f"\nFrom {middle.name}, {middle.rows} rows, {middle.length} tokens:", flush=True)
    for work in lab.WORKS:
        for subject in lab.grown():
            found = lab.measure(work, subject, tokenizer, machine.device, limits)
            _line((*_cells(found), f"{found.rate / base[middle.config, work].rate:.2f} x the tokens/s"))
    return 0


def _cells(found: "Measured") -> tuple[str, ...]:
    subject = found.subject
    return (
        found.work,
        subject.name,
        f"{found.parameters / 1e6:.2f}M",
        str(subject.rows),
        str(subject.length),
        _name(found.dtype),
        f"{found.rate:,.0f}",
        f"{found.share:.0%} ({found.binds})",
        "not told" if found.peak is None else f"{found.peak / 2**20:,.0f} MiB",
    )


def _line(cells: Sequence[str]) -> None:
    print(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=False)).rstrip(), flush=True
    )


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")
