"""catalogue: what there is to know of every world before anybody learns in it, measured by playing it.

Turns, seats, answer space, entropy, what chance and the oracle score, and how long 1,000 episodes take. In a world of
several seats the scores are seat 0's, the others played as `scripted.other_seats` says.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from nanoschool.evals.stats import Estimate
from nanoschool.lab.scripted import (
    Played,
    Speaker,
    against,
    estimate,
    guesser,
    oracle,
    perform,
    tasks_of,
)
from nanoschool.types import Environment, HasGuesses, HasOracle, Task, UserError


@dataclass(frozen=True)
class Entry:
    """A world's line of the table; None where the world does not say."""

    name: str
    n: int  # test tasks
    turns: tuple[float, int]  # mean and most asks an episode, all seats'
    seats: int | None
    space: tuple[int, int] | None  # fewest and most answers at the first ask
    bits: float | None  # mean entropy of the answer for one who knows the rules and the prompt
    chance: Estimate | None
    oracle: Estimate | None
    seconds: float  # a thousand episodes, of which the replies are known beforehand


def entry(env: Environment, n: int = 200) -> Entry:
    """Measure a world on `n` test tasks, or as many as it has. Raises UserError where nobody can play it."""
    tasks = tasks_of(env, "test", n)
    players = {HasOracle: oracle, HasGuesses: guesser}
    played = {
        kind: [_seated(env, task, make(env, task, 0)) for task in tasks]
        for kind, make in players.items()
        if isinstance(env, kind)
    }
    if not played:
        raise UserError(f"world {env.name!r} has neither guesses nor an oracle, so nobody can play it here")
    shown = next(iter(played.values()))
    rewards = shown[0].rewards
    turns = [len(episode.asks) for episode in shown]
    return Entry(
        env.name,
        len(tasks),
        (sum(turns) / len(turns), max(turns)),
        None if rewards is None else len(rewards),
        _space(env, tasks),
        _bits(env, tasks),
        _earned(played.get(HasGuesses)),
        _earned(played.get(HasOracle)),
        _seconds(env, tasks, shown),
    )


def table(entries: Sequence[Entry]) -> list[str]:
    """As lines of text."""
    head = ("world", "turns", "seats", "answers", "bits", "chance", "oracle", "s/1000", "n")
    rows = [head, *(_cells(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _cells(entry: Entry) -> tuple[str, ...]:
    mean, most = entry.turns
    return (
        entry.name,
        f"{mean:.0f}" if mean == most else f"{mean:.1f} (≤{most})",
        str(entry.seats or "-"),
        "-" if entry.space is None else "–".join(map(_short, sorted(set(entry.space)))),
        "-" if entry.bits is None else f"{entry.bits:.2f}",
        _score(entry.chance),
        _score(entry.oracle),
        f"{entry.seconds:.3f}",
        str(entry.n),
    )


def _short(count: int) -> str:
    return str(count) if count < 10_000 else f"{count:.0e}".replace("e+0", "e").replace("e+", "e")


def _score(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _seated(env: Environment, task: Task, speak: Speaker) -> Played:
    return perform(env.play(task), against(env, task, speak))


def _earned(played: Sequence[Played] | None) -> Estimate | None:
    rewards = [episode.rewards for episode in played or ()]
    return estimate([reward[0] for reward in rewards if reward]) if all(rewards) and rewards else None


def _space(env: Environment, tasks: Sequence[Task]) -> tuple[int, int] | None:
    if not isinstance(env, HasGuesses):
        return None
    sizes = [env.answer_space(task) for task in tasks]
    return min(sizes), max(sizes)


def _bits(env: Environment, tasks: Sequence[Task]) -> float | None:
    if not isinstance(env, HasOracle):
        return None
    return sum(env.oracle(task, []).entropy_bits for task in tasks) / len(tasks)


def _seconds(env: Environment, tasks: Sequence[Task], played: Sequence[Played]) -> float:
    """The world's own time: the same replies again, and the fastest time through, for machines do other things too."""
    begun, passes = time.perf_counter(), []
    while not passes or time.perf_counter() - begun < 0.2:
        started = time.perf_counter()
        for task, episode in zip(tasks, played, strict=True):
            perform(env.play(task), lambda ask, replies, said=episode.replies: said[len(replies)])
        passes.append(time.perf_counter() - started)
    return 1000 * min(passes) / len(tasks)
