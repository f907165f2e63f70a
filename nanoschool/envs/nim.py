"""nim: take from one pile; whoever takes the last stone wins (Bouton 1901: the nim-sum of the piles decides).

Asked `nim 3 5 2`, the reply `5-4` takes 4 from a pile of 5. The problem is the piles in ascending order.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor
from random import Random

from nanoschool.envs.common import require
from nanoschool.envs.perfectplay import PerfectPlay
from nanoschool.types import Task

MOVE = re.compile(r"([1-9][0-9]{0,2})-([1-9][0-9]{0,2})")

Piles = tuple[int, ...]


@dataclass(frozen=True)
class Nim(PerfectPlay[Piles]):
    """A number of piles out of `piles`, each of 1 to `highest` stones; more of either are piles never seen."""

    piles: tuple[int, ...] = (3, 4, 5)
    highest: int = 9
    name: str = "nim"

    def __post_init__(self) -> None:
        counts = bool(self.piles) and all(1 <= count <= 8 for count in self.piles)
        require(counts, self.name, f"piles={self.piles} must be numbers of piles from 1 to 8")
        require(1 <= self.highest <= 999, self.name, f"highest={self.highest} must be from 1 to 999")

    def draw(self, rng: Random) -> Task:
        piles = tuple(rng.randint(1, self.highest) for _ in range(rng.choice(self.piles)))
        return Task(self.name, self.family(piles), {"piles": list(piles)})

    def family(self, state: Piles) -> str:
        return " ".join(["nim", *map(str, sorted(state))])

    def start(self, task: Task) -> Piles:
        return tuple(task.data["piles"])

    def moves(self, state: Piles) -> Sequence[str]:
        return [f"{pile}-{taken}" for pile in sorted(set(state)) for taken in range(1, pile + 1)]

    def after(self, state: Piles, move: str) -> Piles:
        """The pile keeps its place; an empty one is gone."""
        pile, taken = map(int, move.split("-"))
        at = state.index(pile)
        left = (pile - taken,) if pile > taken else ()
        return state[:at] + left + state[at + 1 :]

    def result(self, state: Piles) -> float | None:
        return None if state else -1.0  # the other took the last stone

    def values(self, state: Piles) -> Mapping[str, float]:
        """A move wins if it leaves a nim-sum of zero, and else it loses."""
        return {move: -1.0 if nim_sum(self.after(state, move)) else 1.0 for move in self.moves(state)}

    def show(self, state: Piles) -> str:
        return " ".join([self.name, *map(str, state)])

    def read(self, shown: str) -> Piles:
        return tuple(map(int, shown.split()[1:]))

    def fault(self, state: Piles, reply: str) -> str:
        found = MOVE.fullmatch(reply)
        if not found:
            return "write pile-taken, such as 5-4"
        if int(found[1]) not in state:
            return f"there is no pile of {found[1]}"
        return f"from a pile of {found[1]} nobody can take {found[2]}"


def nim_sum(piles: Piles) -> int:
    """The exclusive or of the piles: zero where the seat to move has lost."""
    return reduce(xor, piles, 0)


WORLD = Nim()
