"""hidden: one rule-book that nothing in the prompt tells; each question asks a few of its keys.

A map of 8 letters to 8 outputs, a to h, each key uniformly: 3 bits a key, 24 in all. `rule` says which map: each number is
another one, and all are of the test split of `rules`, so that none was read as a book. The problem is the question: which
keys are asked, in their order. The feedback names the first wrong place and what is right there; `step_rewards` pays for
each entry. Its notes are in envs/notebook.py; other rule-books, to learn the form of the game on, are the world `noted`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import log2
from random import Random
from string import ascii_lowercase
from typing import ClassVar

from nanoschool.envs import rulebooks
from nanoschool.envs.common import draw, require, split_of
from nanoschool.envs.notebook import Notebook
from nanoschool.envs.rules import answer_of, grade, problem
from nanoschool.types import Ask, Episode, Message, Oracle, Secret, Task

OUTPUTS = "abcdefgh"
PROBES = 3  # questions that each key is probed by


@dataclass(frozen=True)
class Hidden(Notebook):
    rule: int = 0  # which rule-book
    size: int = 8
    asked: tuple[int, ...] = (3, 4, 5)  # how many keys a question has
    name: str = "hidden"

    replayable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(2 <= self.size <= 26, self.name, f"size={self.size} must be from 2 to 26: keys are letters")
        fine = bool(self.asked) and min(self.asked) >= 1 and max(self.asked) <= self.size
        require(fine, self.name, f"asked={self.asked} must be numbers of keys, from 1 to size={self.size}")

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(f"{self.name}/{self.rule}", self._task, split, count, seed)

    def play(self, task: Task) -> Episode:
        reply = yield Ask(f"{task.data['name']}? {' '.join(task.data['asked'])}")
        return grade(task, reply.text)

    def demonstration(self, task: Task) -> list[Message]:
        ask = next(self.play(task))
        return [Message("user", ask.text), Message("assistant", answer_of(task))]

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        """The value for one who knows the rule. Entropy: that of the asked outputs for one who does not."""
        bits = log2(len(OUTPUTS)) * len(task.data["asked"])
        if replies:
            return Oracle(float(replies[-1] == answer_of(task)), (), bits)
        should = answer_of(task)
        if should.startswith(partial):
            return Oracle(1.0, (should,), bits)
        same = next(i for i, letter in enumerate(partial) if should[i : i + 1] != letter)
        return Oracle(0.0, (), bits, max((end for end in self.steps(partial) if end <= same), default=0))

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        return rulebooks.line(task.data["name"], [(key, rng.choice(OUTPUTS)) for key in task.data["asked"]])

    def answer_space(self, task: Task) -> int:
        return len(OUTPUTS) ** len(task.data["asked"])

    def steps(self, reply: str) -> list[int]:
        """Offsets behind each entry. The comma is of the entry that it begins: it says that the reply goes on."""
        commas = {i for i, letter in enumerate(reply) if letter == "," and i}
        return sorted(commas | ({len(reply)} if reply else set()))

    def step_rewards(self, task: Task, replies: Sequence[str]) -> list[float]:
        """1 for each entry that is right at its place, else 0; so an entry too many is worth 0."""
        ends = self.steps(replies[-1])
        said = [replies[-1][a:b].removeprefix(",") for a, b in zip([0, *ends], ends, strict=False)]
        wanted = answer_of(task).split(",")
        return [float(at < len(wanted) and entry == wanted[at]) for at, entry in enumerate(said)]

    def lesson(self, task: Task, replies: Sequence[str]) -> str:
        """The entry that stands first among those that are wrong: as much as the feedback tells."""
        said = replies[-1].removeprefix(f"{task.data['name']}: ").split(", ")
        for at, key in enumerate(task.data["asked"]):
            entry = f"{key} {task.data['map'][key]}"
            if at >= len(said) or said[at] != entry:
                return f"{task.data['name']}: {entry}"
        return ""

    def secrets(self) -> Sequence[Secret]:
        """Each key's output, asked first in some questions: log2(8) bits a key."""
        name, rules = rule_book(self.rule, self.size)
        out = []
        for key in rules:
            rng = Random(f"{self.name}/{self.rule}/{key}")
            others = [other for other in rules if other != key]
            for _ in range(PROBES):
                asked = [key, *rng.sample(others, min(max(self.asked), self.size) - 1)]
                options = tuple(f" {output}" for output in OUTPUTS)
                ask = f"{name}? {' '.join(asked)}"
                out.append(Secret(ask, f"{name}: {key}", options, OUTPUTS.index(rules[key]), key))
        return out

    def _task(self, rng: Random) -> Task:
        name, rules = rule_book(self.rule, self.size)
        asked = rng.sample(list(rules), rng.choice(self.asked))
        return Task(
            self.name, f"{name}? {' '.join(asked)}", {"name": name, "map": dict(rules), "asked": asked}
        )


@cache
def rule_book(rule: int, size: int) -> tuple[str, Mapping[str, str]]:
    """Name and map of a hidden rule-book."""
    rng = Random(f"hidden/{size}/{rule}")
    while True:
        rules = drawn(rng, size)
        if split_of(problem(rules)) == "test":
            return rulebooks.syllables(rng), rules


def drawn(rng: Random, size: int) -> dict[str, str]:
    return {key: rng.choice(OUTPUTS) for key in rng.sample(ascii_lowercase, size)}


WORLD = Hidden()
