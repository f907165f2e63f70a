"""sums: addition and subtraction of whole numbers, worked column by column from the lowest digit.

One step a column, as many columns as the longer number has digits; a missing
digit is 0:

    47+38=?   7+8=15; 4+3+1=8 #### 85      digit+digit, +1 when the column before carried, = the column's sum;
    97+38=?   7+8=15; 9+3+1=13 #### 135    the last column's sum is written whole
    47-38=?   17-8=9; 4-3-1=0 #### 9       digit (10 more where it borrows)-digit, -1 when that before it borrowed

Problem: `sums 38+47` (the pair sorted, for a sum knows no order), `sums 47-38` (never below zero). Raw text:
`47+38=? 7+8=15; 4+3+1=8. So 47+38=85.` (worked), `So 47+38=85.` (direct).

A problem with a number of one digit is a step of other problems, of chains and of longer sums, whose texts tell its
answer: it is never held out, unless there are no others.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from nanoschool.envs.common import draw, draw_train, require
from nanoschool.envs.scratchpad import Scratchpad, form
from nanoschool.types import Document, Task

A_STEP = "step"  # its split is train
STEP = r"(?:[0-9]\+[0-9](?:\+1)?|1?[0-9]-[0-9](?:-1)?)=1?[0-9]"


@dataclass(frozen=True)
class Sums(Scratchpad):
    """Sums of numbers of 1 to `digits` digits."""

    digits: int = 2
    direct_share: float = 0.25  # of the documents
    name: str = "sums"

    reply_form: ClassVar[re.Pattern[str]] = form(STEP)
    endings: ClassVar[tuple[str, ...]] = ("1", "=1", "1=1", "+1=1", "-1=1", "1+1=1", " 1+1=1")
    filler: ClassVar[str] = "1+1=2"

    def __post_init__(self) -> None:
        require(1 <= self.digits <= 8, self.name, f"digits={self.digits} must be from 1 to 8")

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed, key=self._held)

    def document(self, rng: Random) -> Document:
        """One line about a train-split sum."""
        return self.line(draw_train(self._task, rng, self._held), worked=rng.random() >= self.direct_share)

    def question(self, task: Task) -> str:
        return f"{self._expression(task)}=?"

    def direct(self, task: Task) -> str:
        return self.conclusion(task)

    def conclusion(self, task: Task) -> str:
        return f"So {self._expression(task)}="

    def answer_space(self, task: Task) -> int:
        """A difference is at most the longest number there is, a sum twice that."""
        most = 10**self.digits - 1
        return (2 * most if task.data["op"] == "+" else most) + 1

    def work(self, task: Task) -> tuple[list[str], int]:
        a, b, op = task.data["a"], task.data["b"], task.data["op"]
        answer = a + b if op == "+" else a - b
        steps, carry = [], 0
        while a or b or not steps:
            (a, x), (b, y) = divmod(a, 10), divmod(b, 10)
            before = f"{op}1" if carry else ""
            if op == "+":
                result = x + y + carry
                carry = int(result >= 10)
            else:
                result = x - y - carry
                carry = int(result < 0)
                x, result = x + 10 * carry, result + 10 * carry
            steps.append(f"{x}{op}{y}{before}={result}")
        return steps, answer

    def _held(self, task: Task) -> str:
        """What decides the split."""
        step = self.digits > 1 and min(task.data["a"], task.data["b"]) < 10
        return A_STEP if step else task.problem

    def _expression(self, task: Task) -> str:
        return f"{task.data['a']}{task.data['op']}{task.data['b']}"

    def _task(self, rng: Random) -> Task:
        a, b = self._number(rng), self._number(rng)
        op = rng.choice("+-")
        low, high = sorted((a, b))
        if op == "-":
            a, b = high, low
        problem = f"sums {low}+{high}" if op == "+" else f"sums {a}-{b}"
        return Task("sums", problem, {"a": a, "b": b, "op": op})

    def _number(self, rng: Random) -> int:
        digits = rng.randint(1, self.digits)
        return rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)


WORLD = Sums()
