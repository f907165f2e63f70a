"""worlds: the commands about worlds: list them, play one, put one's reward on trial."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nanoschool import envs
from nanoschool.commands import say_fewer, target
from nanoschool.options import parse
from nanoschool.types import Environment, UserError

GAMEABLE = 1  # the exit status where a reward can be had without the answer
PLANTED = "planted"


@dataclass(frozen=True)
class Catalogue:
    """Every world: turns, seats, answers, entropy, what chance and the oracle score, seconds for 1,000 episodes."""

    n: int = 200  # test problems a world, or as many as it has


def catalogue(args: Sequence[str]) -> int:
    """envs          list the worlds: turns, seats, answers, entropy, chance, oracle, seconds"""
    options = parse(Catalogue(), args, "nanoschool envs")
    _positive("envs", options.n)
    from nanoschool.lab.catalogue import entry, table

    print("\n".join(table([entry(envs.load(name), options.n) for name in envs.names()])))
    return 0


@dataclass(frozen=True)
class Play:
    """Play a world yourself: a line is a reply, `?` asks the oracle. /quit, Ctrl-D or Ctrl-C ends it."""

    n: int = 10  # problems, or as many as there are
    split: str = "train"  # train, dev or test
    seed: int = 0  # of the problems
    seat: int = 0  # yours, where there are several
    # FILE.py:FUNCTION that pays in place of the world: def score(task, reply: str) -> float, of the seat's last reply
    reward: str = ""


def play(args: Sequence[str]) -> int:
    """play ENV      play a world yourself; `?` asks the oracle"""
    name, options = target("play", args, Play(), "env")
    _positive("play", options.n)
    env = paid(name, options.reward)
    from nanoschool.lab.play import play as at_the_keyboard
    from nanoschool.lab.scripted import tasks_of

    tasks = tasks_of(env, options.split, options.n, options.seed)
    say_fewer(env.name, options.split, len(tasks), options.n)
    try:
        at_the_keyboard(env, tasks, iter(sys.stdin), lambda line: print(line, flush=True), options.seat)
    except KeyboardInterrupt:
        print()
    return 0


@dataclass(frozen=True)
class Trial:
    """Play a fixed set of cheats against a world's reward, beside chance and the oracle. Status 1: it can be gamed."""

    n: int = 200  # test problems, or as many as there are
    seed: int = 0  # of the guesses
    # FILE.py:FUNCTION that is put on trial in place of the world's reward: def score(task, reply: str) -> float, of the
    # seat's last reply
    reward: str = ""


def audit(args: Sequence[str]) -> int:
    """audit ENV     find out how a reward can be gamed; ENV may be ./mine.py, or `planted`"""
    name, options = target("audit", args, Trial(), "env")
    _positive("audit", options.n)
    if name == PLANTED:
        from nanoschool.envs import planted

        worlds = planted.worlds()
    else:
        worlds = [paid(name, options.reward)]
    from nanoschool.lab.audit import audit as put_on_trial
    from nanoschool.lab.audit import lines

    gameable = False
    for env in worlds:
        found = put_on_trial(env, options.n, options.seed)
        say_fewer(env.name, "test", found.n, options.n)
        print("\n".join(lines(found)), flush=True)
        gameable |= found.gameable
    return GAMEABLE if gameable else 0


def xray(args: Sequence[str]) -> int:
    """xray          hold every method's credit for a step against what the step was truly worth; --env steps --from RUN"""
    from nanoschool.commands.xray import look

    return look(args)


def paid(name: str, reward: str) -> Environment:
    """The world of that name, under the user's own reward if one is given."""
    if not reward:
        return envs.load(name)
    from nanoschool.envs.adapters.reward import rewarded

    return rewarded(envs.load(name), reward)


def _positive(command: str, n: int) -> None:
    if n < 1:
        raise UserError(f"nanoschool {command}: --n is {n}, must be at least 1")
