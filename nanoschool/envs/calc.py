"""calc: arithmetic from trivial to hard, with a calculator that may be called at a cost (after 2302.04761).

After Toolformer (Schick et al. 2023, https://arxiv.org/abs/2302.04761). To `Calculate 47*38.`
the reply is `#### 1786`, or it first calls: `<calc>47*38</calc>`, the tool says `1786`, and the policy speaks again. A
right answer earns 1, less `cost` for each call; a wrong one earns 0. So one who is right with probability p by head
does best to call exactly where p is below 1 - cost: at `300+47` a call is wasteful, at `472*38` it is right. A call is
all that ends in </calc>; what stands before it is thinking, and costs nothing. Raw text writes the same on one line:
`Calculate 47*38. <calc>47*38</calc> 1786 #### 1786`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from nanoschool.envs.common import NUMBER, draw, draw_train, leading_number, require
from nanoschool.envs.expressions import evaluate
from nanoschool.types import Ask, Document, Episode, Message, Oracle, Outcome, Task

OPEN, CLOSE = "<calc>", "</calc>"
MARK = "####"
ANSWER = re.compile(rf"{MARK} ({NUMBER})")
# level: (operations, digits of the one number, digits of the other); none is a step of a worked sum or chain
LEVELS = {1: ("+", 3, 2), 2: ("+-", 2, 2), 3: ("*", 3, 1), 4: ("*", 2, 2), 5: ("*", 3, 2)}
ROUND = 1  # the level whose longer number is whole hundreds
PROBES = 24  # problems of a level


@dataclass(frozen=True)
class Calc:
    """Problems of `levels`, equally often; demonstrations call from level `call_from` on."""

    levels: tuple[int, ...] = (1, 2, 3, 4, 5)
    cost: float = 0.1  # of a call, off the reward of a right answer
    calls: int = 2  # at most; asking for more ends the episode
    call_from: int = 4
    name: str = "calc"

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("worked",)

    def __post_init__(self) -> None:
        fine = bool(self.levels) and set(self.levels) <= set(LEVELS)
        require(fine, self.name, f"levels={self.levels} must be numbers from 1 to {len(LEVELS)}")
        require(1 <= self.calls <= 8, self.name, f"calls={self.calls} must be from 1 to 8")
        fine = 0 <= self.cost <= 1 / self.calls
        require(fine, self.name, f"cost={self.cost} must be from 0 to 1/calls, or rewards fall below 0")

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed)

    def play(self, task: Task) -> Episode:
        return self._play(task, Ask(question(task), stop=(CLOSE,)), "tool")

    def complete(self, task: Task, format: str) -> Episode:
        """The same in raw text, where the tool's answer is followed by the text's next words."""
        assert format in self.formats, format
        return self._play(task, Ask(question(task), role="text", stop=(CLOSE, "\n")), "text")

    def demonstration(self, task: Task) -> list[Message]:
        """With a call from level `call_from` on, without one below."""
        return self.shown(task, alone=task.data["level"] < self.call_from)

    def shown(self, task: Task, alone: bool) -> list[Message]:
        """A worked example by head, or with a call."""
        answer = str(solution(task))
        called = [] if alone else [Message("assistant", request(task)), Message("tool", answer)]
        return [Message("user", question(task)), *called, Message("assistant", f"#### {answer}")]

    def probes(self) -> list[Task]:
        """`PROBES` problems of each level: a level is what one can do by head or cannot."""
        some = [replace(self, levels=(level,)).tasks("train", PROBES) for level in self.levels]
        return [task for level in some for task in level]

    def probe(self, task: Task) -> Episode:
        """In raw text, and past the point at which one could call."""
        reply = yield Ask(f"{question(task)} {MARK}", role="text", stop=("\n",), max_tokens=8)
        correct = leading_number(reply.text) == solution(task)
        return Outcome((float(correct),), info={"correct": correct})

    def knowledge(self, task: Task) -> str:
        return f"level {task.data['level']}"

    @property
    def confidence(self) -> float:
        return self._worth(1)

    def alone(self, task: Task, p: float) -> bool:
        return p >= self.confidence

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        """The better of answering and calling, for one who knows the answer: each call made has cost what it costs.

        Whatever the unfinished reply says, it can still become a call while there are calls left.
        """
        made = 0
        for reply in replies:
            if not reply.endswith(CLOSE) or made == self.calls:
                return Oracle(self._reward(task, reply, made), (), 0.0)
            made += 1
        right = f"#### {solution(task)}"
        if right.startswith(partial):
            return Oracle(self._worth(made), (right,), 0.0)
        error = 0 if partial.startswith(MARK) else None  # to call is dearer than to know, but no wrong step
        if made < self.calls:
            return Oracle(self._worth(made + 1), (_called(task, partial),), 0.0, error)
        return Oracle(0.0, (), 0.0, 0)

    def regret(self, task: Task, p: float, act: str) -> float:
        """What an act loses, for one who is right by head with probability p: the best is max(p, 1 - cost)."""
        worth = {"answer": p, "call": self._worth(1), "nonsense": 0.0}
        return max(worth.values()) - worth[act]

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        """Any answer that a problem of this kind can have, without a call."""
        low, high = bounds(task)
        return f"#### {rng.randint(low, high)}"

    def answer_space(self, task: Task) -> int:
        low, high = bounds(task)
        return high - low + 1

    def document(self, rng: Random) -> Document:
        """One line about a train-split problem; the tool's answer is not learned, for the tool writes it."""
        task = draw_train(self._task, rng)
        answer = solution(task)
        if task.data["level"] < self.call_from:
            return [(f"{question(task)} #### {answer}\n", True)]
        return [
            (f"{question(task)} {request(task)}", True),
            (f" {answer}", False),
            (f" #### {answer}\n", True),
        ]

    def _play(self, task: Task, ask: Ask, answering: str) -> Episode:
        made = 0
        reply = yield ask
        while reply.text.endswith(CLOSE) and made < self.calls:
            made += 1
            value = evaluate(requested(reply.text))
            said = "error" if value is None else str(value)
            said = said if answering == "tool" else f" {said}"
            reply = yield Ask(said, role=answering, stop=ask.stop)
        text = reply.text if answering == "tool" else reply.text.strip(" \n")
        found = ANSWER.fullmatch(text)
        correct = found is not None and int(found[1]) == solution(task)
        info = {
            "wellformed": found is not None,
            "correct": correct,
            "level": task.data["level"],
            "act": "call" if made else "answer" if found else "nonsense",
            "called": made > 0,
            "calls": made,
            "cost": self.cost * made,
        }
        return Outcome((self._reward(task, text, made),), "" if correct else solved(task), info)

    def _reward(self, task: Task, reply: str, made: int) -> float:
        return self._worth(made) if reply == f"#### {solution(task)}" else 0.0

    def _worth(self, made: int) -> float:
        """A right answer after so many calls."""
        return max(0.0, 1.0 - self.cost * made)

    def _task(self, rng: Random) -> Task:
        level = rng.choice(self.levels)
        operations, first, second = LEVELS[level]
        operation = rng.choice(operations)
        a, b = _number(rng, first), _number(rng, second)
        a = a // 100 * 100 if level == ROUND else a
        low, high = sorted((a, b))
        if operation == "-":
            a, b = high, low
        elif rng.random() < 0.5:
            a, b = b, a
        kind = "calc" if operation == "*" else "sums"  # whose problems these are: one split for both worlds
        problem = f"{kind} {high}-{low}" if operation == "-" else f"{kind} {low}{operation}{high}"
        return Task("calc", problem, {"a": a, "b": b, "op": operation, "level": level})


def question(task: Task) -> str:
    return f"Calculate {expression(task)}."


def solved(task: Task) -> str:
    return f"{expression(task)}={solution(task)}"


def expression(task: Task) -> str:
    return f"{task.data['a']}{task.data['op']}{task.data['b']}"


def request(task: Task) -> str:
    """The call that answers the problem."""
    return f"{OPEN}{expression(task)}{CLOSE}"


def _called(task: Task, partial: str) -> str:
    """The unfinished reply, gone on with until it is a call, of the problem itself where it has not said another."""
    before, opened, said = partial.rpartition(OPEN)
    if opened and CLOSE not in said:
        whole = before + request(task)
        return whole if whole.startswith(partial) else partial + CLOSE
    return partial + request(task)


def requested(reply: str) -> str:
    """What a reply that ends in a call asks the calculator; "" where the call was never opened."""
    return reply.removesuffix(CLOSE).rpartition(OPEN)[2] if OPEN in reply else ""


def solution(task: Task) -> int:
    a, b = task.data["a"], task.data["b"]
    return {"+": a + b, "-": a - b, "*": a * b}[task.data["op"]]


def bounds(task: Task) -> tuple[int, int]:
    """The least and the greatest answer of the problem's level and operation."""
    _, first, second = LEVELS[task.data["level"]]
    (low, high), (least, most) = _range(first), _range(second)
    high = high // 100 * 100 if task.data["level"] == ROUND else high
    return {"+": (low + least, high + most), "-": (0, high - least), "*": (low * least, high * most)}[
        task.data["op"]
    ]


def _range(digits: int) -> tuple[int, int]:
    return (1 if digits == 1 else 10 ** (digits - 1)), 10**digits - 1


def _number(rng: Random, digits: int) -> int:
    return rng.randint(*_range(digits))


WORLD = Calc()
