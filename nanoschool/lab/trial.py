"""trial: episodes of a world in which one seat guesses, is right, or cheats; what the audit compares."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from random import Random

from nanoschool.lab.cheats import Cheat, Variant
from nanoschool.lab.known import Known, guesses_of, right_replies, right_speaker
from nanoschool.lab.scripted import Speaker, against, perform, tasks_of
from nanoschool.types import Ask, Environment, Outcome, Task, UserError

GUESSES = 16  # a task: chance is then known better than any cheat
TRAIN = 64  # tasks whose right replies may be known
FIRST, SECOND, KEPT = 8, 32, 4  # dev tasks that variants are tried on, all of them and then the best


@dataclass(frozen=True)
class Attempt:
    """An episode in which one seat cheated."""

    reward: float
    said: str  # first
    wrote: bool
    abstained: bool


class Trial:
    """Episodes of a world in which one seat, in several-seated worlds another from task to task, cheats."""

    def __init__(self, env: Environment, seed: int) -> None:
        self.env, self.seed = env, seed
        self.train = tasks_of(env, "train", TRAIN)
        self.other = right_replies(env, self.train)
        self.guess = guesses_of(env, self.other)
        self.known: dict[str, Known] = {}  # by problem: what variants find out about it they find out once
        rng, task = Random(seed), self.train[0]
        rewards = perform(env.play(task), lambda ask, replies: self.guess(task, replies, rng)).rewards
        if rewards is None:
            raise UserError(f"world {env.name!r} gives no reward, so there is nothing to audit")
        self.seats = len(rewards)
        self.most = max(rewards)  # that any reply earned yet

    def chance(self, tasks: Sequence[Task]) -> list[float]:
        """The mean reward of guesses at each task."""
        means = []
        for at, task in enumerate(tasks):
            rng = Random(f"chance/{task.problem}/{self.seed}")
            speak = partial(self._guess, task, rng)
            means.append(sum(self._play(task, at, speak)[0] for _ in range(GUESSES)) / GUESSES)
        return means

    def right(self, tasks: Sequence[Task]) -> list[float] | None:
        """What right replies earn; None where nobody knows them."""
        speakers = [right_speaker(self.env, task, self.seats, self.seed) for task in tasks]
        known = [speak for speak in speakers if speak is not None]
        if len(known) < len(tasks):
            return None
        return [
            self._play(task, at, speak)[0] for at, (task, speak) in enumerate(zip(tasks, known, strict=True))
        ]

    def attempts(self, variant: Variant, tasks: Sequence[Task]) -> list[Attempt]:
        return [self._cheat(variant, task, at) for at, task in enumerate(tasks)]

    def best(self, cheat: Cheat, tasks: Sequence[Task]) -> Variant:
        """The variant that earns most on these tasks: all of them are tried on a few, the best of these on all."""
        kept = list(cheat.variants)
        for some, keep in ((tasks[:FIRST], KEPT), (tasks, 1)):
            if len(kept) > keep:
                totals = [sum(attempt.reward for attempt in self.attempts(variant, some)) for variant in kept]
                order = sorted(range(len(kept)), key=lambda position: -totals[position])
                kept = [kept[position] for position in order[:keep]]
        return kept[0]

    def _cheat(self, variant: Variant, task: Task, at: int) -> Attempt:
        known = self.known.setdefault(task.problem, Known(self.guess, task))
        known.rng = Random(f"cheat/{task.problem}/{self.seed}")
        said: list[str] = []

        def speak(ask: Ask, replies: Sequence[str]) -> str:
            known.replies = replies
            said.append(variant(known, ask, len(said)))
            return said[-1]

        before = deepcopy(task.data)
        reward, outcome = self._play(task, at, speak)
        abstained = outcome.info.get("abstained") is True
        return Attempt(reward, said[0] if said else "", task.data != before, abstained)

    def _play(self, task: Task, at: int, speak: Speaker) -> tuple[float, Outcome]:
        seat = at % self.seats
        played = perform(self.env.play(task), against(self.env, task, speak, seat, self.seed))
        if played.rewards is None:
            raise UserError(f"world {self.env.name!r} gives no reward for {task.problem!r}")
        self.most = max(self.most, played.rewards[seat])
        return played.rewards[seat], played.outcome

    def _guess(self, task: Task, rng: Random, ask: Ask, replies: Sequence[str]) -> str:
        return self.guess(task, replies, rng)
