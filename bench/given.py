"""given: a world of texts to go on with, that pays by chance, and sessions that nothing sampled ends."""

from collections.abc import Sequence
from random import Random

from nanoschool.core.endings import Endings
from nanoschool.core.engine import Session
from nanoschool.core.policy import Policy
from nanoschool.types import Ask, Episode, Outcome, Task


class Given:
    name, replayable = "given", True

    def __init__(self, prompts: Sequence[str], longest: int) -> None:
        self.prompts, self.longest, self.rng = prompts, longest, Random(0)

    def tasks(self, split: str, count: int, seed: int = 0) -> list[Task]:
        return [Task(self.name, text, {}) for text in self.prompts[:count]]

    def play(self, task: Task) -> Episode:
        yield Ask(task.problem, role="text", max_tokens=self.longest)
        return Outcome((self.rng.random(),))


class Endless(Policy):
    """Every reply is as long as it may be."""

    def open(self, seed: int = 0, temperature: float = 1.0) -> Session:
        session = super().open(seed, temperature)
        session.endings = Endings(self.tokenizer, self.model.config.vocab, ())
        return session
