"""connect3: drop stones into four columns of four; three in a row, column or diagonal win (Connect Four made small).

Asked `connect3 X O / X / - / O, X`: the columns from left to right, each from the bottom up, `-` for an empty one, and
X is to move; the reply is a column, `3`. From the empty board 41,750 positions can be reached, and X wins with any first
move.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nanoschool.envs.boardgame import FREE, BoardGame, to_move

SIDE = 4
COLUMNS = ("1", "2", "3", "4")
STEPS = ((1, 0), (0, 1), (1, 1), (1, -1))  # to the next square of a line: columns, rows


def lines() -> list[tuple[int, int, int]]:
    """Every three squares that win; square `SIDE * column + row`, rows from the bottom up."""
    found = []
    for column in range(SIDE):
        for row in range(SIDE):
            for right, up in STEPS:
                end = (column + 2 * right, row + 2 * up)
                if all(0 <= place < SIDE for place in end):
                    at, step = SIDE * column + row, SIDE * right + up
                    found.append((at, at + step, at + 2 * step))
    return found


@dataclass(frozen=True)
class Connect3(BoardGame):
    """Starts have a number of random moves out of `plies` behind them."""

    plies: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    name: str = "connect3"

    squares: ClassVar[int] = SIDE * SIDE
    lines: ClassVar[Sequence[tuple[int, int, int]]] = lines()
    images: ClassVar[Sequence[Sequence[int]]] = (
        [SIDE * column + row for column in reversed(range(SIDE)) for row in range(SIDE)],
    )

    def moves(self, state: str) -> Sequence[str]:
        return [column for at, column in enumerate(COLUMNS) if state[SIDE * at + SIDE - 1] == FREE]

    def square(self, state: str, move: str) -> int:
        return state.index(FREE, SIDE * COLUMNS.index(move))

    def show(self, state: str) -> str:
        columns = [state[at : at + SIDE].replace(FREE, "") for at in range(0, len(state), SIDE)]
        return f"{self.name} {' / '.join(' '.join(column) or '-' for column in columns)}, {to_move(state)}"

    def read(self, shown: str) -> str:
        columns = shown.partition(",")[0].partition(" ")[2].split("/")
        stones = ["".join(mark for mark in column if mark in "XO") for column in columns]
        return "".join(column.ljust(SIDE, FREE) for column in stones)

    def fault(self, state: str, reply: str) -> str:
        return f"column {reply} is full" if reply in COLUMNS else "write a column from 1 to 4"


WORLD = Connect3()
