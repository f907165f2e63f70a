"""python: questions that a one-line program answers, with an interpreter to call (after PAL, 2211.10435).

After "PAL: Program-aided Language Models" (Gao et al. 2022, https://arxiv.org/abs/2211.10435). Asked `7**23 mod 97?`, the
reply is `#### 57`, or it first calls: `<python>print(7**23%97)</python>`, the tool says what the program printed
or the error that ended it, and the policy speaks again, after `calls` calls for the last time. Only the answer
earns; a call costs nothing here (it does in envs/calc.py). A call is all that ends in </python>; what stands before
it is thinking. Programs run in envs/sandbox.py, each in a session of its own. Raw text writes the same on one line:
`7**23 mod 97? <python>print(7**23%97)</python> 57 #### 57`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, log2
from random import Random
from typing import ClassVar

from nanoschool.envs import sandbox
from nanoschool.envs.common import NUMBER, draw, draw_train, require
from nanoschool.types import Ask, Document, Episode, Message, Oracle, Outcome, Task

OPEN, CLOSE = "<python>", "</python>"
MARK = "####"
ANSWER = re.compile(rf"{MARK} ({NUMBER})")
SILENT = "no output"
PRIME = 97
KINDS = ("power", "squares", "skip")
EXPONENTS = tuple(b for b in range(5, 60) if gcd(b, PRIME - 1) == 1)  # so that every remainder is as frequent
HIGHEST = {"power": PRIME - 1, "squares": 11_985, "skip": 1_260}  # answers lie in 0..


@dataclass(frozen=True)
class Python:
    """Questions of `kinds`, equally often; `calls` programs may be run, and `shown` characters of each are told."""

    kinds: tuple[str, ...] = KINDS
    calls: int = 2
    shown: int = 80
    name: str = "python"

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("worked",)

    def __post_init__(self) -> None:
        fine = bool(self.kinds) and set(self.kinds) <= set(KINDS)
        require(fine, self.name, f"kinds={self.kinds} must be of {', '.join(KINDS)}")
        require(1 <= self.calls <= 8, self.name, f"calls={self.calls} must be from 1 to 8")
        require(1 <= self.shown <= 400, self.name, f"shown={self.shown} must be from 1 to 400")

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed)

    def play(self, task: Task) -> Episode:
        return self._play(task, Ask(question(task), stop=(CLOSE,)))

    def complete(self, task: Task, format: str) -> Episode:
        """The same in raw text, where what the program printed is followed by the text's next words."""
        assert format in self.formats, format
        return self._play(task, Ask(question(task), role="text", stop=(CLOSE, "\n")))

    def demonstration(self, task: Task) -> list[Message]:
        answer = str(solution(task))
        return [
            Message("user", question(task)),
            Message("assistant", call(task)),
            Message("tool", answer),
            Message("assistant", f"{MARK} {answer}"),
        ]

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        """1 while the answer can still be given: as long as a call is left, any unfinished reply can become one.

        Entropy: of the answer, for one who has computed nothing.
        """
        right, bits = f"{MARK} {solution(task)}", 0.0 if replies else log2(self.answer_space(task))
        for made, reply in enumerate(replies):
            if made == self.calls or not reply.endswith(CLOSE):
                return Oracle(float(reply == right), (), 0.0)
        if right.startswith(partial):
            return Oracle(1.0, (right,), bits)
        if len(replies) < self.calls:
            return Oracle(1.0, (_called(task, partial),), bits, 0 if partial.startswith(MARK) else None)
        return Oracle(0.0, (), bits, 0)

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        """Any number that a question of this kind may have for its answer, without a program."""
        return f"{MARK} {rng.randint(0, HIGHEST[task.data['kind']])}"

    def answer_space(self, task: Task) -> int:
        return HIGHEST[task.data["kind"]] + 1

    def document(self, rng: Random) -> Document:
        """One line about a train-split question; what the program printed is not learned, for the tool writes it."""
        task = draw_train(self._task, rng)
        answer = solution(task)
        return [
            (f"{question(task)} {call(task)}", True),
            (f" {answer}", False),
            (f" {MARK} {answer}\n", True),
        ]

    def _play(self, task: Task, ask: Ask) -> Episode:
        raw, made, failed = ask.role == "text", 0, 0
        reply = yield ask
        while reply.text.endswith(CLOSE) and made < self.calls:
            ran = sandbox.shared().run(requested(reply.text))
            made, failed = made + 1, failed + (not ran.ok)
            said = ran.text.strip()[: self.shown] or SILENT
            reply = yield Ask(f" {said}" if raw else said, role="text" if raw else "tool", stop=ask.stop)
        text = reply.text.strip(" \n") if raw else reply.text
        found, answer = ANSWER.fullmatch(text), solution(task)
        correct = found is not None and int(found[1]) == answer
        info = {
            "wellformed": found is not None,
            "correct": correct,
            "kind": task.data["kind"],
            "calls": made,
            "failed": failed,
        }
        return Outcome((float(correct),), "" if correct else f"{question(task)} {answer}", info)

    def _task(self, rng: Random) -> Task:
        kind = rng.choice(self.kinds)
        if kind == "power":
            numbers = [rng.randint(2, PRIME - 1), rng.choice(EXPONENTS)]
        elif kind == "squares":
            low = rng.randint(1, 30)
            numbers = [low, rng.randint(low + 2, low + 9)]
        else:
            low, step = rng.randint(1, 30), rng.randint(3, 9)
            numbers = [low, rng.randint(low + 15, low + 60), step, rng.randrange(step)]
        problem = f"python {kind} {' '.join(map(str, numbers))}"
        return Task("python", problem, {"kind": kind, "numbers": numbers})


def question(task: Task) -> str:
    return _written(
        task, power="{}**{} mod 97?", squares="squares {} to {}, sum?", skip="{} to {}, mod {} is {}, sum?"
    )


def call(task: Task) -> str:
    """The program that answers the question, as a call."""
    program = _written(
        task,
        power="print({}**{}%97)",
        squares="print(sum([i*i for i in range({},{}+1)]))",
        skip="print(sum([i for i in range({},{}+1) if i%{}=={}]))",
    )
    return f"{OPEN}{program}{CLOSE}"


def solution(task: Task) -> int:
    numbers = task.data["numbers"]
    if task.data["kind"] == "power":
        return pow(numbers[0], numbers[1], PRIME)
    if task.data["kind"] == "squares":
        return sum(i * i for i in range(numbers[0], numbers[1] + 1))
    low, high, step, rest = numbers
    return sum(i for i in range(low, high + 1) if i % step == rest)


def requested(reply: str) -> str:
    """The program of a reply that ends in a call; "" where the call was never opened."""
    return reply.removesuffix(CLOSE).rpartition(OPEN)[2] if OPEN in reply else ""


def _called(task: Task, partial: str) -> str:
    """The unfinished reply, gone on with until it is the right call; a program begun in other words is just closed."""
    right = call(task)
    before, opened, _ = partial.rpartition(OPEN)
    if opened:
        whole = before + right
        return whole if whole.startswith(partial) else partial + CLOSE
    return right if right.startswith(partial) else partial + right


def _written(task: Task, **forms: str) -> str:
    return forms[task.data["kind"]].format(*task.data["numbers"])


WORLD = Python()
