"""play: a person plays a world at the keyboard, and may ask the oracle.

A line is a reply; one that ends in a backslash goes on on the next. `?` asks the oracle about the state, `?TEXT` about
a reply that begins with TEXT. An empty line is no reply. The end of the input ends the game. Where a world can guess,
one of its guesses shows the form of a reply before the first.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from random import Random

from nanoschool.lab.scripted import Speaker, against, perform
from nanoschool.types import Ask, Environment, HasGuesses, HasOracle, Task, UserError

QUIT = "/quit"
NOTHING = f"(an empty line is no reply; ? asks the oracle, {QUIT} ends)"
SHOWN = 3  # best replies


class Left(Exception):
    """The person has gone."""


def play(
    env: Environment, tasks: Sequence[Task], lines: Iterator[str], say: Callable[[str], None], seat: int = 0
) -> list[float]:
    """Play the tasks in turn until they or the lines end; returns the rewards of the episodes that were finished.

    `lines` are what the person types, `say` shows a line. Raises UserError for a seat that the world does not have.
    """
    earned: list[float] = []
    with suppress(Left):  # who goes keeps what was earned
        for number, task in enumerate(tasks, start=1):
            say(f"--- {env.name} {number}")
            person = _person(env, task, lines, say, first=number == 1)
            played = perform(env.play(task), against(env, task, person, seat))
            outcome = played.outcome
            if played.rewards is None:
                say("no reward: this world does not score")
            elif not 0 <= seat < len(played.rewards):
                raise UserError(f"world {env.name!r} has no seat {seat}, only 0 to {len(played.rewards) - 1}")
            else:
                earned.append(played.rewards[seat])
                say(f"reward {played.rewards[seat]:g}")
            if outcome.feedback:
                say(f"feedback: {outcome.feedback}")
            if outcome.info:
                say(", ".join(f"{key} {value}" for key, value in outcome.info.items()))
    if earned:
        say(f"mean reward {sum(earned) / len(earned):.3f} (n = {len(earned)})")
    return earned


def _person(
    env: Environment, task: Task, lines: Iterator[str], say: Callable[[str], None], first: bool
) -> Speaker:
    heard = 0  # replies that have been shown
    shows_form = first

    def speak(ask: Ask, replies: Sequence[str]) -> str:
        nonlocal heard, shows_form
        for reply in replies[heard:]:
            say(f"they: {reply}")
        if ask.reward:
            say(f"reward so far {ask.reward:+g}")
        say(f"{ask.role}: {ask.text}" if ask.role != "user" else ask.text)
        if shows_form and isinstance(env, HasGuesses):
            say(f"(reply like: {env.guess(task, replies, Random(task.problem))})")
            shows_form = False
        while (line := _line(lines)).startswith("?") or not line.strip():
            say(_truth(env, task, replies, line[1:]) if line.strip() else NOTHING)
        heard = len(replies) + 1
        return line

    return speak


def _line(lines: Iterator[str]) -> str:
    """A whole reply. Raises Left at the end of the input."""
    parts: list[str] = []
    for line in lines:
        line = line.rstrip("\n")
        if not parts and line == QUIT:
            break
        parts.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            return "\n".join(parts)
    raise Left


def _truth(env: Environment, task: Task, replies: Sequence[str], partial: str) -> str:
    if not isinstance(env, HasOracle):
        return "oracle: this world has none"
    truth = env.oracle(task, replies, partial)
    best = " | ".join(truth.best_replies[:SHOWN]) or "nothing helps any more"
    more = " | …" if len(truth.best_replies) > SHOWN else ""
    wrong = "" if truth.first_error is None else f", wrong from character {truth.first_error}"
    return f"oracle: value {truth.value:g}, {truth.entropy_bits:.2f} bits{wrong}; best: {best}{more}"
