"""Games between scripted players, for the tests of worlds of two seats."""

from collections.abc import Callable

from nanoschool.envs import load
from nanoschool.envs.perfectplay import PerfectPlay
from nanoschool.types import Ask, Episode, Outcome, Reply, Task

GAMES: dict[str, PerfectPlay] = {name: load(name) for name in ("nim", "tictactoe", "kuhn", "connect3")}
Player = Callable[[Ask], Reply]


def play(episode: Episode, *players: Player) -> tuple[list[Ask], list[str], Outcome]:
    """Let a player for each seat play to the end."""
    asks, replies = [], []
    try:
        ask = next(episode)
        while True:
            asks.append(ask)
            replies.append(players[ask.seat](ask).text)
            ask = episode.send(Reply(replies[-1]))
    except StopIteration as end:
        return asks, replies, end.value


def says(*texts: str) -> Player:
    rest = list(texts)
    return lambda ask: Reply(rest.pop(0))


def nim(*piles: int) -> Task:
    return Task("nim", "", {"piles": list(piles)})


def board(squares: str) -> Task:
    return Task("", "", {"board": squares})


def hand(first: int, second: int) -> Task:
    return Task("kuhn", "", {"deck": [3, 8, 12], "cards": [first, second]})
