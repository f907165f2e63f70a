"""fitting: are the passes of training compiled? Where a run is long enough to repay it, which is reckoned before it begins.

What is decided follows from the settings and the machine alone, so a run that goes on decides the same.
"""

from collections.abc import Iterable
from functools import cache
from typing import Literal

from nanoschool.core.config import ModelConfig
from nanoschool.ledger import Budget
from nanoschool.types import UserError

Fitting = Literal["auto", "eager", "compiled"]
RATE = 1.5e14  # FLOP/s of a large GPU without a compiler: assumed, not measured
REPAID = 180.0  # seconds at that rate of which compiled passes save the minute or so that compiling takes: assumed too


def choose(asked: Fitting, device: str, budgets: Iterable[str], config: ModelConfig) -> tuple[bool, str]:
    """(are they compiled?, why). UserError where that is asked for and cannot be."""
    if asked == "compiled":
        check(device)
    if asked != "auto":
        return asked == "compiled", "as asked for"
    if device == "cpu":
        return False, "torch.compile did not repay its time on a CPU, whose passes are in C"
    if lack := lacking(device):
        return False, lack
    flops = planned(budgets, config)
    if flops < REPAID * RATE:
        return False, f"a run of {flops:.1e} FLOPs is too short to repay compiling"
    return True, f"a run of {flops:.1e} FLOPs repays compiling"


def check(device: str) -> None:
    """UserError where nothing can be compiled for a device."""
    if lack := lacking(device):
        raise UserError(f"training cannot be compiled: {lack}")


@cache
def lacking(device: str) -> str:
    """What is not there that compiling for a device needs; "" where all is."""
    from torch.utils._triton import has_triton  # torch takes seconds to import, and settings hold a Fitting

    from nanoschool.core import compiler

    if device not in ("cpu", "cuda"):
        return f"torch.compile is not tried on {device}; leave fitting eager"
    if device == "cuda" and not has_triton():
        return "torch.compile needs Triton on a GPU: install triton, or leave fitting eager"
    try:
        compiler.check(device)
    except UserError as reason:
        return str(reason)
    return ""


def planned(budgets: Iterable[str], config: ModelConfig) -> float:
    """FLOPs that budgets are going to be, were all of it fitting of half-filled contexts; bits tell of none."""
    half = config.context // 2
    total, token = 0.0, config.fitting(1, half // 2, 1)
    tokens = {"tokens": 1, "sampled": 1, "trained": 1, "rollouts": half}
    for text in budgets:
        budget = Budget.parse(text, flops_per_second=RATE)
        total += budget.limit * (1 if budget.unit == "flops" else tokens.get(budget.unit, 0) * token)
    return total
