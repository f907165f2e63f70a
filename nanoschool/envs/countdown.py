"""countdown: make a target of a few numbers, each used at most once, as in the television game; worked in steps.

Asked: `3 25 4 7 make 14?`, reply `3+4=7; 7+7=14 #### 14`. A step takes two numbers out of
the pool and puts its result in; results are whole numbers from 1 to 999. Right is every reply whose steps are
allowed and leave the target in the pool; the target is none of the given numbers, so it must have been made. The
problem is the numbers, sorted, and the target; the order in which they are told is dress. What can still be made of
a pool is worked out exactly in envs/reach.py. Raw text: `3 25 4 7 make 14? 3+4=7; 7+7=14. So 14.`
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from nanoschool.envs.common import draw, draw_train, leading_number, require
from nanoschool.envs.reach import HIGHEST, OPERATIONS, Pool, alive, apply, moves, solve
from nanoschool.envs.scratchpad import Scratchpad, form
from nanoschool.types import Ask, Document, Episode, Oracle, Outcome, Task

RESULT = r"[1-9][0-9]{0,2}"
STEP = re.compile(rf"({RESULT})([-+*/])({RESULT})=({RESULT})")
MOST = 6  # numbers


@dataclass(frozen=True)
class Countdown(Scratchpad):
    """`counts` numbers from 1 to `largest`, of which a target from 1 to `highest_target` can be made with all."""

    counts: tuple[int, ...] = (3, 4)
    largest: int = 20
    highest_target: int = 99
    name: str = "countdown"

    formats: ClassVar[tuple[str, ...]] = ("worked",)
    reply_form: ClassVar[re.Pattern[str]] = form(rf"{RESULT}[-+*/]{RESULT}={RESULT}")

    def __post_init__(self) -> None:
        fine = bool(self.counts) and all(3 <= count <= MOST for count in self.counts)
        require(fine, self.name, f"counts={self.counts} must be how many numbers, from 3 to {MOST}")
        require(2 <= self.largest <= 99, self.name, f"largest={self.largest} must be from 2 to 99")
        fine = 10 <= self.highest_target <= HIGHEST
        require(fine, self.name, f"highest_target={self.highest_target} must be from 10 to {HIGHEST}")

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed)

    def document(self, rng: Random) -> Document:
        """One line about a train-split problem."""
        return self.line(draw_train(self._task, rng), worked=True)

    def question(self, task: Task) -> str:
        return f"{' '.join(map(str, task.data['numbers']))} make {task.data['target']}?"

    def conclusion(self, task: Task) -> str:
        return "So "

    def work(self, task: Task) -> tuple[list[str], int]:
        """One of the shortest solutions. Raises AssertionError for a task that has none; this world draws none."""
        steps = solve(pool_of(task), task.data["target"])
        assert steps is not None, task.problem
        return steps, task.data["target"]

    def complete(self, task: Task, format: str) -> Episode:
        """The question in raw text, which is to go on with steps and ` So <target>.`"""
        assert format in self.formats, format
        reply = yield Ask(self.question(task), role="text", stop=("\n",))
        body, found, after = reply.text.partition(". So ")
        answer = leading_number(after) if found else None
        return self._judge(task, body.removeprefix(" "), answer, answer is not None)

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        """1 while the reply can still become a right one, else 0; `first_error`: the step at which that was lost."""
        if replies:
            return Oracle(self._reward(task, replies[-1]), (), 0.0)
        pool, target = pool_of(task), task.data["target"]
        *said, tail = partial.split("; ", MOST)
        start = 0
        for step in said:
            after = follow(pool, step)
            if after is None or not alive(after, target):
                return Oracle(0.0, (), 0.0, start)
            pool, start = after, start + len(step) + len("; ")
        rest = _finish(pool, target, tail)
        if rest is not None:
            return Oracle(1.0, (partial[:start] + rest,), 0.0)
        whole = STEP.match(tail)  # a good step before a wrong answer is no error
        if whole and start + whole.end() in self.steps(partial):
            after = follow(pool, whole[0])
            if after is not None and alive(after, target):
                return Oracle(0.0, (), 0.0, start + whole.end())
        return Oracle(0.0, (), 0.0, start)

    def answer_space(self, task: Task) -> int:
        space, left = 1, len(task.data["numbers"])
        for pairs in (count * (count - 1) // 2 for count in range(2, left + 1)):
            space *= pairs * len(OPERATIONS)
        return space

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        """Any two numbers and any operation, the bigger number first, until one is left; not all is allowed."""
        pool, steps = list(task.data["numbers"]), []
        while len(pool) > 1:
            rng.shuffle(pool)
            small, big = sorted((pool.pop(), pool.pop()))
            operation = rng.choice(OPERATIONS)
            result = apply(big, operation, small) or big
            steps.append(f"{big}{operation}{small}={result}")
            pool.append(result)
        return f"{'; '.join(steps)} #### {task.data['target']}"

    def _reward(self, task: Task, reply: str) -> float:
        rewards = self._grade(task, reply).rewards
        assert rewards is not None
        return rewards[0]

    def _grade(self, task: Task, reply: str) -> Outcome:
        found = self.reply_form.fullmatch(reply)
        body, _, after = reply.partition(" #### ")
        return self._judge(task, body, leading_number(after), found is not None)

    def _judge(self, task: Task, body: str, answer: int | None, wellformed: bool) -> Outcome:
        pool: Pool | None = pool_of(task)
        target, fault = task.data["target"], ""
        for step in body.split("; ", MOST):
            left, pool = pool, follow(pool, step)
            if pool is None:
                fault = _complaint(left, step)
                break
        if not fault and (pool is None or target not in pool):
            fault = f"{target} is not made"
        if not fault and answer != target:
            fault = f"the answer is {target}"
        right = wellformed and not fault
        info = {"wellformed": wellformed, "length": len(task.data["numbers"]), "correct": not fault}
        return Outcome((float(right),), fault if wellformed else "write steps and the answer", info)

    def _task(self, rng: Random) -> Task:
        while True:
            numbers = [rng.randint(1, self.largest) for _ in range(rng.choice(self.counts))]
            pool = list(numbers)
            while len(pool) > 1:  # any steps with all the numbers, so there is a solution
                rng.shuffle(pool)
                small, big = sorted((pool.pop(), pool.pop()))
                pool.append(rng.choice([r for op in OPERATIONS if (r := apply(big, op, small)) is not None]))
            target = pool[0]
            if target <= self.highest_target and target not in numbers:
                problem = f"countdown {' '.join(map(str, sorted(numbers)))} to {target}"
                return Task("countdown", problem, {"numbers": numbers, "target": target})


def pool_of(task: Task) -> Pool:
    return tuple(sorted(task.data["numbers"]))


def follow(pool: Pool, step: str) -> Pool | None:
    """The pool after a step; None where the step is not allowed."""
    found = STEP.fullmatch(step)
    if not found:
        return None
    a, b, result, rest = int(found[1]), int(found[3]), int(found[4]), list(pool)
    for number in (a, b):
        if number not in rest:
            return None
        rest.remove(number)
    return tuple(sorted((*rest, result))) if apply(a, found[2], b) == result else None


def _finish(pool: Pool, target: int, tail: str) -> str | None:
    """A whole rest of a right reply that begins with the tail, from a step's start; None where there is none."""
    end = f" #### {target}"
    for step, after in moves(pool):
        if step.startswith(tail) and (steps := solve(after, target)) is not None:
            return "; ".join((step, *steps)) + end
        if tail.startswith(step):
            said = tail[len(step) :]
            if end.startswith(said) and target in after:
                return step + end
            if said == ";" and (rest := _finish(after, target, "")) is not None:
                return f"{step}; {rest}"
    return None


def _complaint(pool: Pool, step: str) -> str:
    """Why a step is not allowed."""
    found = STEP.fullmatch(step)
    if not found:
        return "wrong: not a step"
    result = apply(int(found[1]), found[2], int(found[3]))
    if result == int(found[4]):
        return f"wrong: {step}, there are {' '.join(map(str, pool))}"
    if result is None:
        return f"wrong: {step}, no whole number from 1 to {HIGHEST}"
    return f"wrong: {step}, right: {found[1]}{found[2]}{found[3]}={result}"


WORLD = Countdown()
