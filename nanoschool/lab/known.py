"""known: what a cheat may know of a task without knowing its answer: the form of replies, and what could be answered."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random

from nanoschool.envs.adapters.reward import Rewarded
from nanoschool.envs.common import common_prefix
from nanoschool.lab.scripted import Speaker, oracle
from nanoschool.types import Ask, Environment, HasDemonstrations, HasGuesses, HasOracle, Task

Guess = Callable[[Task, Sequence[str], Random], str]
DRAWS = 1000  # guesses drawn to find every possible answer
COMMONEST = 24  # right replies that are remembered
PLAIN = (*"0123456789abcd", "yes", "no", "true", "false")  # guessed where a world says nothing of its form


def right_replies(env: Environment, tasks: Sequence[Task]) -> list[str]:
    """What one says who is right, by the demonstration, else by the oracle; the commonest first, some at most."""
    said: list[str] = []
    for task in tasks:
        if isinstance(env, HasDemonstrations):
            said += [message.content for message in env.demonstration(task) if message.role == "assistant"]
        elif isinstance(env, HasOracle):
            said += env.oracle(task, []).best_replies[:1]
    return [reply for reply, _ in Counter(said).most_common(COMMONEST)]


def right_speaker(env: Environment, task: Task, seats: int, seed: int = 0) -> Speaker | None:
    """One who is right at a task, by the world's oracle, else by its demonstration; None where it has neither.

    Under a user's reward right is still what the world says. A demonstration shows one seat, so games need an oracle.
    """
    world = env.world if isinstance(env, Rewarded) else env
    if isinstance(world, HasOracle):
        return oracle(world, task, seed)
    if seats > 1 or not isinstance(world, HasDemonstrations):
        return None
    shown = [message.content for message in world.demonstration(task) if message.role == "assistant"]

    def speak(ask: Ask, replies: Sequence[str]) -> str:
        return shown[min(len(replies), len(shown) - 1)]

    return speak


def guesses_of(env: Environment, other: Sequence[str]) -> Guess:
    """The world's own guesses; where it has none, replies that are right elsewhere, else short words."""
    if isinstance(env, HasGuesses):
        return env.guess
    return lambda task, replies, rng: rng.choice(other or PLAIN)


@dataclass
class Known:
    """What a cheat may know of a task: its state's names, and by guesses the form of a reply and every answer."""

    draw: Guess
    task: Task
    rng: Random = field(default_factory=Random)  # of the episode, as are the replies
    replies: Sequence[str] = ()

    def guess(self) -> str:
        return self.draw(self.task, self.replies, self.rng)

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """What can be guessed at the first ask: drawn until nothing new comes, or many have come."""
        found: dict[str, None] = {}
        rng, idle = Random(f"answers/{self.task.problem}"), 0
        for _ in range(DRAWS):
            idle = idle + 1 if (answer := self.draw(self.task, (), rng)) in found else 0
            found[answer] = None
            if (
                idle > 5 * len(found) + 20
            ):  # a missing one of so many would have come, but for one time in a hundred
                break
        return tuple(found)

    @cached_property
    def form(self) -> tuple[str, str, list[str]]:
        """(what all answers begin with, what all end with, what stands between in each)."""
        before = shared(self.answers) if len(self.answers) > 1 else ""
        after = shared([answer[len(before) :][::-1] for answer in self.answers])[::-1] if before else ""
        return before, after, [answer[len(before) : len(answer) - len(after)] for answer in self.answers]


def shared(texts: Sequence[str]) -> str:
    """What all texts begin with: what the first and the last of them in order do."""
    first = min(texts)
    return first[: common_prefix(first, max(texts))]
