"""chain: chains of assignments, `a=3; b=a+4; c=b*2; c=?`, worked out step by step.

The problem is the first value and the operations; the names are dress, so a chain
and the same chain in other letters are one problem and fall into one split. All values lie in 0..99.
Reply: `b=3+4=7; c=7*2=14 #### 14`. Raw text: `a=3; b=a+4; b=? b=3+4=7. So b=7.` (worked) and
`a=3; b=a+4. So b=7.` (direct).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from string import ascii_lowercase
from typing import ClassVar

from nanoschool.envs.common import NUMBER, draw, draw_train, require
from nanoschool.envs.scratchpad import Scratchpad, form
from nanoschool.types import Document, Task

STEP = rf"[a-z]={NUMBER}[+*-]{NUMBER}={NUMBER}"
OPERANDS = {"+": (1, 9), "-": (1, 9), "*": (2, 4)}
OPERATIONS = "++--*"  # + and - are twice as likely as *
HIGHEST = 99
LONGEST = len(ascii_lowercase) - 1  # every value has a letter of its own


@dataclass(frozen=True)
class Chain(Scratchpad):
    """Chains of `lengths` steps in tasks; of `document_lengths`, and in a share `long_lengths`, in documents."""

    lengths: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    document_lengths: tuple[int, ...] = (1, 2, 3)
    long_lengths: tuple[int, ...] = (4, 5, 6, 7)
    long_share: float = 0.15  # of the documents; long ones are always worked
    direct_share: float = 0.12  # of the documents of `document_lengths`
    name: str = "chain"

    reply_form: ClassVar[re.Pattern[str]] = form(STEP)
    endings: ClassVar[tuple[str, ...]] = ("1", "=1", "1=1", "+1=1", "1+1=1", "=1+1=1", "b=1+1=1", " b=1+1=1")
    filler: ClassVar[str] = "b=1+1=2"

    def __post_init__(self) -> None:
        for setting in ("lengths", "document_lengths", "long_lengths"):
            lengths = getattr(self, setting)
            fine = bool(lengths) and all(1 <= length <= LONGEST for length in lengths)
            require(fine, self.name, f"{setting}={lengths} must be numbers of steps from 1 to {LONGEST}")
        for setting in ("long_share", "direct_share"):
            share = getattr(self, setting)
            require(0 <= share <= 1, self.name, f"{setting}={share} must be from 0 to 1")

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, lambda rng: self._task(rng, rng.choice(self.lengths)), split, count, seed)

    def document(self, rng: Random) -> Document:
        """One line about a train-split chain."""
        long = rng.random() < self.long_share
        lengths = self.long_lengths if long else self.document_lengths
        task = draw_train(lambda rng: self._task(rng, rng.choice(lengths)), rng)
        return self.line(task, worked=long or rng.random() >= self.direct_share)

    def question(self, task: Task) -> str:
        return f"{self._assignments(task)}; {task.data['names'][-1]}=?"

    def direct(self, task: Task) -> str:
        return f"{self._assignments(task)}. {self.conclusion(task)}"

    def conclusion(self, task: Task) -> str:
        return f"So {task.data['names'][-1]}="

    def answer_space(self, task: Task) -> int:
        return HIGHEST + 1

    def work(self, task: Task) -> tuple[list[str], int]:
        value, steps = task.data["start"], []
        for name, op in zip(task.data["names"][1:], task.data["ops"], strict=True):
            result = apply(value, op)
            steps.append(f"{name}={value}{op}={result}")
            value = result
        return steps, value

    def _assignments(self, task: Task) -> str:
        names, ops = task.data["names"], task.data["ops"]
        parts = [f"{names[0]}={task.data['start']}"]
        parts += [f"{name}={before}{op}" for before, name, op in zip(names, names[1:], ops, strict=False)]
        return "; ".join(parts)

    def _task(self, rng: Random, length: int) -> Task:
        start = value = rng.randint(1, 20)
        ops: list[str] = []
        while len(ops) < length:
            operation = rng.choice(OPERATIONS)
            op = f"{operation}{rng.randint(*OPERANDS[operation])}"
            if 0 <= (result := apply(value, op)) <= HIGHEST:
                ops.append(op)
                value = result
        names = rng.sample(ascii_lowercase, length + 1)
        data = {"start": start, "ops": ops, "names": names, "L": length}
        return Task("chain", f"chain {start} {' '.join(ops)}", data)


def apply(value: int, op: str) -> int:
    """The value after an operation such as "+4"."""
    operand = int(op[1:])
    return {"+": value + operand, "-": value - operand, "*": value * operand}[op[0]]


WORLD = Chain()
