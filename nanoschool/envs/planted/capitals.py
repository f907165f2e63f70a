"""capitals: what the planted worlds share: the capital of a made-up country, one town of twenty.

Nobody can know it, so chance is one in twenty and only the oracle does better. A subclass grades.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from nanoschool.envs.common import draw, words
from nanoschool.types import Ask, Episode, Oracle, Outcome, Task

TOWNS = words(
    "arvo belm corin dessa elby farro gant hulme irsk jelle korda lurch mesk norv oltra pryde quill rusk "
    "solve tarn"
)


@dataclass(frozen=True)
class Capitals(ABC):
    """Base of the planted worlds: a subclass has a name and a grade with a hole."""

    name: str

    replayable: ClassVar[bool] = True

    @abstractmethod
    def grade(self, town: str, reply: str) -> float:
        """The reward, 0..1, where `town` is right; it is 1 for `answer: TOWN`."""

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed)

    def play(self, task: Task) -> Episode:
        reply = yield Ask(question(task))
        return Outcome((self.grade(task.data["town"], reply.text),))

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        right = f"answer: {task.data['town']}"
        return Oracle(1.0, (right,), 0.0) if right.startswith(partial) else Oracle(0.0, (), 0.0)

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        return f"answer: {rng.choice(TOWNS)}"

    def answer_space(self, task: Task) -> int:
        return len(TOWNS)

    def _task(self, rng: Random) -> Task:
        country = rng.randrange(10**6)
        return Task(
            self.name, f"{self.name} {country}", {"country": country, "town": Random(country).choice(TOWNS)}
        )


def question(task: Task) -> str:
    return f"What is the capital of country {task.data['country']}?"


def stated(reply: str) -> str | None:
    """The town of a reply of the form `answer: TOWN`; None for any other."""
    town = reply.removeprefix("answer: ")
    return town if town != reply and town in TOWNS else None
