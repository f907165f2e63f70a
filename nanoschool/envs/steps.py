"""steps: chains and sums in one world; each task is played by the world that it came from.

A task keeps the name of its own world (`chain`, `sums`), so problems and splits are
theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from nanoschool.envs.chain import Chain
from nanoschool.envs.scratchpad import Scratchpad
from nanoschool.envs.sums import Sums
from nanoschool.types import Document, Episode, Message, Oracle, Task


@dataclass(frozen=True)
class Steps:
    """Alternately a chain and a sum in tasks; documents are sums in a share of `sums_share`."""

    chain: Chain = field(default_factory=Chain)
    sums: Sums = field(default_factory=Sums)
    sums_share: float = 0.3
    name: str = "steps"

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = Scratchpad.formats

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        chains = self.chain.tasks(split, (count + 1) // 2, seed)
        sums = self.sums.tasks(split, count // 2, seed)
        return [(sums if position % 2 else chains)[position // 2] for position in range(count)]

    def play(self, task: Task) -> Episode:
        return self._world(task).play(task)

    def demonstration(self, task: Task) -> list[Message]:
        return self._world(task).demonstration(task)

    def complete(self, task: Task, format: str) -> Episode:
        return self._world(task).complete(task, format)

    def steps(self, reply: str) -> list[int]:
        return self.chain.steps(reply)  # both write steps in the same way

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        return self._world(task).oracle(task, replies, partial)

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        return self._world(task).guess(task, replies, rng)

    def answer_space(self, task: Task) -> int:
        return self._world(task).answer_space(task)

    def document(self, rng: Random) -> Document:
        world = self.sums if rng.random() < self.sums_share else self.chain
        return world.document(rng)

    def _world(self, task: Task) -> Scratchpad:
        return {"chain": self.chain, "sums": self.sums}[task.world]


WORLD = Steps()
