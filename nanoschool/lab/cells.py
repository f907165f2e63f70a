"""cells: the pieces that a comparison falls into, each in a folder of its own: one training, or one measurement.

A cell follows from the comparison and its own few words, whatever the others do; a killed one goes on where its last
checkpoint was. Every arm's draws have the same names, so the same seed asks every arm the same problems, and draws the
same tokens as long as the weights are the same (common random numbers).
"""

import fcntl
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nanoschool import train
from nanoschool.core.files import remove_folder
from nanoschool.core.policy import Policy
from nanoschool.folder import Folder
from nanoschool.lab.comparison import Comparison, settings
from nanoschool.lab.measured import measure, measure_start
from nanoschool.lab.practised import begun, practise
from nanoschool.lab.sampling import sample_more
from nanoschool.ledger import Ledger

RESULT = "result.json"
TRIAL_LOOKS = 2


@dataclass(frozen=True)
class Cell:
    """`kind` is start, trial, arm or sampling; of the other words a kind has those that it needs."""

    kind: str
    method: str = ""  # as `training` takes it; of the start and of sampling, the first arm's, for its world
    lr: float = 0.0  # 0 where the method has none
    seed: int = 0
    attempts: int = 0  # at each test problem
    way: str = ""  # of asking

    @property
    def folder(self) -> str:
        words = [Path(self.method).stem, f"{self.lr:g}" if self.lr else "", f"seed{self.seed}"]
        return f"{self.kind}/{'-'.join(word for word in words if word)}"


def carry_out(comparison: Comparison, cell: Cell, root: Path, show: train.Show) -> None:
    """Do a cell, or the rest of it, and write its result; nothing where there is one."""
    path = root / "cells" / cell.folder
    path.mkdir(parents=True, exist_ok=True)
    with claimed(path), Folder(path) as folder:
        if not (path / RESULT).exists():
            started = time.monotonic()
            result = WORK[cell.kind](comparison, cell, folder, show)
            folder.write_json(RESULT, asdict(cell) | result | {"seconds": time.monotonic() - started})


@contextmanager
def claimed(path: Path) -> Generator[None]:
    """Wait for a process whose command was killed: it ends with its step."""
    with open(path / ".claim", "w") as claim:
        fcntl.flock(claim, fcntl.LOCK_EX)
        yield


def trial(comparison: Comparison, cell: Cell, folder: Folder, show: train.Show) -> dict[str, Any]:
    """One learning rate at a share of the budget, scored on dev; its weights are not kept."""
    result = practise(comparison, cell, folder, show, comparison.trial_share, TRIAL_LOOKS)
    if folder.checkpoints.exists():
        remove_folder(folder.checkpoints)
    return result


def arm(comparison: Comparison, cell: Cell, folder: Folder, show: train.Show) -> dict[str, Any]:
    """One seed of an arm: trained at the whole budget, its best weights on dev measured once on the test."""
    plan = settings(comparison, cell.method)

    def exam(policy: Policy, start: Policy) -> dict[str, Any]:
        return measure(policy, start, plan.worlds, plan.evaluation.worlds, comparison)

    return practise(comparison, cell, folder, show, 1.0, comparison.looks, exam)


def start(comparison: Comparison, cell: Cell, folder: Folder, show: train.Show) -> dict[str, Any]:
    """What there was before: the start, asked as it answers best on dev."""
    ledger = Ledger()
    plan = settings(comparison, cell.method)
    policy = begun(plan, comparison.device, ledger)
    found = measure_start(policy, plan.worlds, plan.evaluation.worlds, comparison, plan.start.converses)
    return found | {"spent": ledger.to_json()}


def sampling(comparison: Comparison, cell: Cell, folder: Folder, show: train.Show) -> dict[str, Any]:
    ledger = Ledger()
    plan = settings(comparison, cell.method)
    policy = begun(plan, comparison.device, ledger)
    found = sample_more(policy, plan.worlds[comparison.env], comparison, cell.way, cell.attempts, cell.seed)
    return found | {"spent": ledger.to_json()}


Work = Callable[[Comparison, Cell, Folder, train.Show], dict[str, Any]]
WORK: dict[str, Work] = {"start": start, "trial": trial, "arm": arm, "sampling": sampling}
