"""tictactoe: three in a row on three by three squares; 5,478 positions, and between perfect players a draw.

Asked `tictactoe X 2 O 4 X 6 7 8 9, O`: a free square shows its number, and O is to move; the reply is a square, `9`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nanoschool.envs.boardgame import FREE, BoardGame, to_move

NUMBERS = "123456789"
STRAIGHT = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8))
MIRROR = (2, 1, 0, 5, 4, 3, 8, 7, 6)
TURN = (6, 3, 0, 7, 4, 1, 8, 5, 2)  # a quarter turn
HALF = tuple(TURN[at] for at in TURN)
BACK = tuple(TURN[at] for at in HALF)


@dataclass(frozen=True)
class TicTacToe(BoardGame):
    """Starts have a number of random moves out of `plies` behind them."""

    plies: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    name: str = "tictactoe"

    squares: ClassVar[int] = 9
    lines: ClassVar[Sequence[tuple[int, int, int]]] = (*STRAIGHT, (0, 4, 8), (2, 4, 6))
    images: ClassVar[Sequence[Sequence[int]]] = (
        TURN,
        HALF,
        BACK,
        MIRROR,
        *[tuple(MIRROR[at] for at in turned) for turned in (TURN, HALF, BACK)],
    )

    def moves(self, state: str) -> Sequence[str]:
        return [number for number, held in zip(NUMBERS, state, strict=True) if held == FREE]

    def square(self, state: str, move: str) -> int:
        return NUMBERS.index(move)

    def show(self, state: str) -> str:
        held = [number if mark == FREE else mark for number, mark in zip(NUMBERS, state, strict=True)]
        return f"{self.name} {' '.join(held)}, {to_move(state)}"

    def read(self, shown: str) -> str:
        return "".join(FREE if mark in NUMBERS else mark for mark in shown.partition(",")[0].split()[1:])

    def fault(self, state: str, reply: str) -> str:
        if len(reply) == 1 and reply in NUMBERS:
            return f"square {reply} is taken"
        return "write the number of a free square"


WORLD = TicTacToe()
