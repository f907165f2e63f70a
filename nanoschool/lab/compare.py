"""compare: methods side by side from one start, at one budget: every cell done, by several processes, and what came of it.

In turn: what the start can do; three learning rates of each arm on dev, at a share of the budget; each arm at its best one
with every seed; and the start without training, given as many attempts at each test problem as an arm's training would
have paid for. The folder remembers what is done: the same command goes on, and ends in the same numbers.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nanoschool.core import device
from nanoschool.core.manifest import digest
from nanoschool.folder import Folder
from nanoschool.interrupt import terminable
from nanoschool.lab.cells import RESULT, Cell
from nanoschool.lab.comparison import PLAN, TRIAL_SEED, Arm, Comparison, arms
from nanoschool.lab.crew import THREADS, Crew
from nanoschool.lab.practised import begun
from nanoschool.lab.sampling import bought
from nanoschool.lab.tally import tally
from nanoschool.ledger import Budget, Ledger
from nanoschool.machine import flops_per_second
from nanoschool.plan import Settings
from nanoschool.train import Show
from nanoschool.types import UserError

OUTCOME = "compare.json"


def compare(comparison: Comparison, root: Path, processes: int, show: Show) -> dict[str, Any]:
    """Carry a comparison out in the folder `root`, or the rest of it; returns what compare.json holds.

    Raises UserError before anything is spent where an arm cannot be trained here, or the folder is of another comparison.
    """
    every, absent = arms(comparison)
    with terminable(), Folder(root) as folder:
        comparison = settle(comparison, every[0].settings(comparison), folder)
        with Crew(comparison, root, processes) as crew:
            results = Work(comparison, folder, crew, show).all(every)
        outcome = tally(comparison, every, absent, results)
        folder.write_json(OUTCOME, outcome)
    return outcome


def settle(comparison: Comparison, plan: Settings, folder: Folder) -> Comparison:
    """The comparison as it was begun here, with its budget in a unit that every machine counts alike.

    Raises UserError where another one was begun here, from other weights, or on a machine that computes other last bits.
    """
    machine = device.choose(comparison.device, THREADS).to_json()
    asked = comparison.to_json() | {"runs_dir": str(comparison.runs_dir.absolute())}
    files = [*comparison.methods, comparison.env]
    own = {file: digest(Path(file)) for file in files if file.endswith(".py")}
    now = {"asked": asked, "machine": machine, "start": _weights(Path(plan.start.path)), "files": own}
    if not (known := folder.read_json(PLAN)):
        settled = replace(comparison, device=machine["device"])
        if comparison.budget.startswith("seconds"):
            rate = flops_per_second(begun(plan, settled.device, Ledger()), folder)
            settled = replace(settled, budget=f"flops={Budget.parse(comparison.budget, rate).limit:.6g}")
        folder.write_json(PLAN, now | {"comparison": settled.to_json()})
        return settled
    fresh = json.loads(json.dumps(now))  # as it was written: lists, no tuples
    changed = [
        f"{key}: {known.get(part, {}).get(key)}, now {value}"
        for part in fresh
        for key, value in fresh[part].items()
        if known.get(part, {}).get(key) != value
    ]
    if changed:
        raise UserError(
            f"{folder.path}: was begun as another ({'; '.join(changed)}); give this one another --name"
        )
    return Comparison.from_json(known["comparison"])


Results = list[dict[str, Any]]


class Work:
    """The cells of a comparison in their order, each batch following from the results of those before."""

    def __init__(self, comparison: Comparison, folder: Folder, crew: Crew, show: Show) -> None:
        self.comparison, self.folder, self.crew, self.show = comparison, folder, crew, show

    def all(self, every: Sequence[Arm]) -> Results:
        """Every cell's result; that of the start is the first."""
        seeds, world = range(1, self.comparison.seeds + 1), every[0].method
        tried = [Cell("trial", arm.method, lr, TRIAL_SEED) for arm in every for lr in arm.lrs]
        start, *trials = self._do("the start, and learning rates", [Cell("start", world), *tried])
        rates = {arm.method: best_rate(arm, trials) for arm in every}
        taught = [Cell("arm", arm.method, rates[arm.method], seed) for seed in seeds for arm in every]
        trained = self._do("arms", taught)
        budget = Budget.parse(self.comparison.budget)
        flops = budget.limit if budget.unit == "flops" else most_spent(trained, len(every))
        k = bought(flops, start["attempt_flops"], len(start["rewards"]))
        more = [Cell("sampling", world, seed=seed, attempts=k, way=start["way"]) for seed in seeds]
        return [start, *trials, *trained, *self._do("more sampling", more)]

    def _do(self, what: str, cells: Sequence[Cell]) -> Results:
        under_way: dict[Cell, float] = {}
        over = [cell for cell in cells if self._result(cell)]
        self.show.stage(what, f"{len(cells)} cells, {len(over)} of them done before")

        def moved(cell: Cell, progress: float) -> None:
            under_way[cell] = progress
            share = (len(over) + sum(min(1.0, p) for p in under_way.values())) / len(cells)
            self.show.step(what, len(over), share, {}, cell.folder)

        def done(cell: Cell) -> None:
            under_way.pop(cell, None)
            over.append(cell)
            self.show.say(f"{len(over)}/{len(cells)} {told(self._result(cell))}")

        self.crew.do([cell for cell in cells if cell not in over], moved, done)
        return [self._result(cell) for cell in cells]

    def _result(self, cell: Cell) -> dict[str, Any]:
        return self.folder.read_json(f"cells/{cell.folder}/{RESULT}")


def best_rate(arm: Arm, trials: Results) -> float:
    """The learning rate with the best dev score at the end of its trial; 0 of an arm that has none.

    Not the best on the way: the start is on every way, and would make all that do harm alike. Of equals the middle one,
    then the lowest. Raises UserError where the loss of every one was no number.
    """
    if not arm.lrs:
        return 0.0
    stood = [one for one in trials if one["method"] == arm.method and not one["diverged"]]
    if not stood:
        raise UserError(
            f"{arm.name}: its loss is no number at any of {arm.lrs}; give lower --lrs, under another --name"
        )
    middle = sorted(arm.lrs)[len(arm.lrs) // 2]
    return max(stood, key=lambda one: (one["curve"][-1]["dev"], one["lr"] == middle, -one["lr"]))["lr"]


def most_spent(trained: Results, count: int) -> float:
    """FLOPs of practice of the arm that spent most, a seed on average; `trained` has the arms in turn, seed by seed."""
    spent = [one["curve"][-1]["flops"] for one in trained]
    return max(sum(spent[i::count]) / len(spent[i::count]) for i in range(count))


def told(result: dict[str, Any]) -> str:
    """A cell's outcome in a line."""
    name = f"{result['kind']} {Path(result['method']).stem} lr {result['lr']:g} seed {result['seed']}"
    if result["kind"] in ("trial", "arm"):
        best, end = result["best"], result["curve"][-1]
        ended = f", ended: {result['diverged']}" if result["diverged"] else ""
        told = f"{name}: dev {end['dev']:.3f}, best {best['dev']:.3f} at step {best['step']} of {end['step']}"
        told += f", {end['flops']:.3g} FLOPs{ended}"
    elif result["kind"] == "start":
        told = f"start, asked as {result['way']}: test {_mean(result['rewards'])}"
    else:
        told = f"start with {result['attempts']} attempts, seed {result['seed']}: test {_mean(result['vote'])} by vote"
    return f"{told}, {result['seconds']:.0f} s"


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.3f} (n = {len(values)})"


def _weights(folder: Path) -> dict[str, str]:
    """SHA-256 of the start's weights, by file."""
    return {path.name: digest(path) for path in sorted(folder.glob("model*.safetensors"))}
