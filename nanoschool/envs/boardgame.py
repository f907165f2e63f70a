"""boardgame: what games on a board share: X and O in turn, three in a line win, and the truth by memoised search.

X begins on an empty board, so the stones tell whose turn it is. A start has a few random legal moves behind it; seat 0
is then the one to move, be it X or O. Positions that are mirror images of each other are one problem.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random
from typing import ClassVar

from nanoschool.envs.common import require
from nanoschool.envs.perfectplay import PerfectPlay
from nanoschool.types import Task

FREE = "."


class BoardGame(PerfectPlay[str]):
    """Base of these games; a state is the board as text, one character a square: X, O or FREE."""

    squares: ClassVar[int]
    lines: ClassVar[Sequence[tuple[int, int, int]]]  # squares that win together
    images: ClassVar[
        Sequence[Sequence[int]]
    ]  # for each mirroring, itself left out, where each square is taken from

    @property
    @abstractmethod
    def plies(self) -> tuple[int, ...]:
        """How many random moves a start may have behind it."""

    def __post_init__(self) -> None:
        most = self.squares - 1
        fine = bool(self.plies) and all(0 <= count <= most for count in self.plies)
        require(fine, self.name, f"plies={self.plies} must be numbers of moves from 0 to {most}")

    @abstractmethod
    def square(self, state: str, move: str) -> int:
        """Where a legal move puts its stone."""

    def start(self, task: Task) -> str:
        return task.data["board"]

    def after(self, state: str, move: str) -> str:
        at = self.square(state, move)
        return f"{state[:at]}{to_move(state)}{state[at + 1 :]}"

    def result(self, state: str) -> float | None:
        other = "X" if to_move(state) == "O" else "O"
        if any(state[a] == state[b] == state[c] == other for a, b, c in self.lines):
            return -1.0
        return None if FREE in state else 0.0

    def values(self, state: str) -> Mapping[str, float]:
        return {move: 0.0 - worth(self, self.after(state, move)) for move in self.moves(state)}

    def draw(self, rng: Random) -> Task:
        """Random legal moves; once more from the start where they ended the game."""
        count = rng.choice(self.plies)
        while True:
            state = FREE * self.squares
            while self.result(state) is None:
                if self.squares - state.count(FREE) == count:
                    return Task(self.name, self.family(state), {"board": state})
                state = self.after(state, rng.choice(self.moves(state)))

    def family(self, state: str) -> str:
        return f"{self.name} {self.canonical(state)}"

    def canonical(self, state: str) -> str:
        """The first in the alphabet of a board and its mirror images."""
        return min([state, *("".join([state[at] for at in image]) for image in self.images)])


def to_move(state: str) -> str:
    return "X" if state.count("X") == state.count("O") else "O"


@cache
def worth(game: BoardGame, state: str) -> float:
    """The value to the seat to move, by search of all that can follow; a won move needs no second look."""
    if (result := game.result(state)) is not None:
        return result
    if (same := game.canonical(state)) != state:
        return worth(game, same)
    best = -1.0
    for move in game.moves(state):
        best = max(best, 0.0 - worth(game, game.after(state, move)))
        if best == 1.0:
            break
    return best
