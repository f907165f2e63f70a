"""scripted: worlds driven by functions in place of a model: an oracle, a guesser, an echo. No torch, so it is fast.

A speaker hears an Ask and every reply given so far in the episode, those of all seats in their order, and replies.
The same function may hold one seat or all of them. Replies end at an Ask's stop strings, as a model's do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from nanoschool.evals.stats import Estimate, mean_interval, proportion
from nanoschool.types import (
    Ask,
    Environment,
    Episode,
    HasGuesses,
    HasOpponent,
    HasOracle,
    Outcome,
    Reply,
    Task,
    TooFew,
    UserError,
)

Speaker = Callable[[Ask, Sequence[str]], str]
MOST_TURNS = 1000  # an episode that asks more often than that is taken for endless


@dataclass(frozen=True)
class Played:
    """A whole episode. `rewards` are sums by seat, those given on the way included; None where nothing is scored."""

    asks: tuple[Ask, ...]
    replies: tuple[str, ...]
    outcome: Outcome
    rewards: tuple[float, ...] | None


def perform(episode: Episode, speak: Speaker, most_turns: int = MOST_TURNS) -> Played:
    """Play to the end. Raises UserError where the world does not end, or ends with anything but an Outcome."""
    asks: list[Ask] = []
    replies: list[str] = []
    try:
        asks.append(next(episode))
        while len(asks) <= most_turns:
            reply = cut(speak(asks[-1], replies), asks[-1].stop)
            replies.append(reply.text)
            asks.append(episode.send(reply))
    except StopIteration as end:
        return Played(tuple(asks), tuple(replies), end.value, _rewards(asks, end.value))
    raise UserError(f"the world still asks after {most_turns} replies; end its `play` with an Outcome")


def cut(text: str, stop: Sequence[str]) -> Reply:
    """The reply that is left of a text when a turn ends with the first stop string in it, which is kept."""
    ends = [at + len(mark) for mark in stop if (at := text.find(mark)) >= 0]
    return Reply(text[: min(ends)], "stop") if ends else Reply(text)


def _rewards(asks: Sequence[Ask], outcome: Outcome) -> tuple[float, ...] | None:
    if not isinstance(outcome, Outcome):
        raise UserError(f"the world's `play` ended with {outcome!r}; end it with `return Outcome((reward,))`")
    if outcome.rewards is None:
        return None
    sums = list(outcome.rewards)
    for ask in asks:
        if ask.reward:
            sums[ask.seat] += ask.reward
    return tuple(sums)


# Speakers


def oracle(env: Environment, task: Task, seed: int = 0) -> Speaker:
    """Perfect play, one of the best replies at random; says nothing where nothing is left to be won."""
    if not isinstance(env, HasOracle):
        raise UserError(f"world {env.name!r} has no oracle; give it `oracle(task, replies, partial)`")
    rng = Random(f"oracle/{task.problem}/{seed}")

    def speak(ask: Ask, replies: Sequence[str]) -> str:
        best = env.oracle(task, replies).best_replies
        return rng.choice(best) if best else ""

    return speak


def guesser(env: Environment, task: Task, seed: int = 0) -> Speaker:
    """Chance: what the world says one would reply who knows the form of an answer and nothing else."""
    if not isinstance(env, HasGuesses):
        raise UserError(f"world {env.name!r} has no guesses; give it `guess(task, replies, rng)`")
    rng = Random(f"guess/{task.problem}/{seed}")
    return lambda ask, replies: env.guess(task, replies, rng)


def echo(env: Environment, task: Task, seed: int = 0) -> Speaker:
    """Says back what was asked."""
    return lambda ask, replies: ask.text


POLICIES: Mapping[str, Callable[[Environment, Task, int], Speaker]] = {
    "oracle": oracle,
    "random": guesser,
    "echo": echo,
}


def other_seats(env: Environment, task: Task, seed: int = 0) -> Speaker:
    """Who sits opposite: the world's own opponent, else its oracle, else its guesses."""
    if isinstance(env, HasOpponent):
        answer = env.opponent(Random(f"opponent/{task.problem}/{seed}"))
        return lambda ask, replies: answer(ask).text
    return (oracle if isinstance(env, HasOracle) else guesser)(env, task, seed + 1)


def against(env: Environment, task: Task, speak: Speaker, seat: int = 0, seed: int = 0) -> Speaker:
    """`speak` in one seat, and `other_seats` in the others."""
    other: list[Speaker] = []  # made only once another seat is asked: most worlds have none

    def answer(ask: Ask, replies: Sequence[str]) -> str:
        if ask.seat == seat:
            return speak(ask, replies)
        if not other:
            other.append(other_seats(env, task, seed))
        return other[0](ask, replies)

    return answer


# Scores


def tasks_of(env: Environment, split: str, count: int, seed: int = 0) -> list[Task]:
    """`count` tasks of a split, or all that a small world has. Raises the world's TooFew where it has none."""
    try:
        return list(env.tasks(split, count, seed))
    except TooFew as few:
        if not few.found:
            raise
        return list(env.tasks(split, few.found, seed))


def scores(env: Environment, policy: str, tasks: Sequence[Task], seat: int = 0, seed: int = 0) -> list[float]:
    """Each task's reward for the seat that the policy holds. Raises UserError where the world gives none."""
    found = []
    for task in tasks:
        speak = against(env, task, POLICIES[policy](env, task, seed), seat, seed)
        rewards = perform(env.play(task), speak).rewards
        if rewards is None:
            raise UserError(
                f"world {env.name!r} gives no reward: a learned one scores it, so nobody can here"
            )
        found.append(rewards[seat])
    return found


def estimate(values: Sequence[float]) -> Estimate:
    """The mean with its 95 % interval: Wilson's where all is 0 or 1, else a bootstrap over tasks."""
    return proportion(sum(values), len(values)) if set(values) <= {0.0, 1.0} else mean_interval(values)
