"""perfectplay: what games of two seats give who are solved: the oracle, regret, an opponent, games to read and imitate.

Splits part the positions that games start from, and all that is read or imitated: no document, and no demonstration of
a train task, asks about a position of another split. Play itself goes where the players take it.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from random import Random
from typing import ClassVar

from nanoschool.envs.common import PATIENCE, draw_train, split_of
from nanoschool.envs.twoseats import State, TwoSeats
from nanoschool.types import Ask, Document, Message, Oracle, Reply, Task, UserError


class PerfectPlay(TwoSeats[State]):
    """Base of these worlds: a subclass says besides the rules what each move is worth, and reads what it shows."""

    # Whose side is read and imitated. Seat 0's is enough where a start can be any position, so any player's turn.
    seats: ClassVar[tuple[int, ...]] = (0,)

    @abstractmethod
    def values(self, state: State) -> Mapping[str, float]:
        """What each legal move is worth to the seat that makes it, given what it may know, under perfect play."""

    def perfect(self, state: State, rng: Random) -> str:
        """A move of perfect play: any of the best, where nothing is hidden."""
        values = self.values(state)
        top = max(values.values())
        return rng.choice([move for move, value in values.items() if value == top])

    def entropy_bits(self, state: State) -> float:
        """What the seat to move does not know; nothing, where all lies open."""
        return 0.0

    @abstractmethod
    def read(self, shown: str) -> State:
        """The state as far as `show` tells it: what a scripted opponent goes by."""

    # What is known of a game under way

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        """The value to the seat to move; after the end, what the seat that spoke last has got.

        `replies` are both seats', in their order. A partial reply that no legal move begins with has lost; one that
        no best move begins with is wrong from its first character on.
        """
        *_, (state, fault) = self.replay(task, replies)
        if fault:
            return Oracle(-1.0, (), 0.0)
        if (result := self.result(state)) is not None:
            return Oracle(0.0 - result, (), 0.0)
        values = self.values(state)
        within = {move: value for move, value in values.items() if move.startswith(partial)}
        value = max(within.values(), default=-1.0)
        best = tuple(move for move, worth in within.items() if worth == value)
        right = bool(best) and value == max(values.values())
        return Oracle(value, best, self.entropy_bits(state), None if right else 0)

    def regret(self, task: Task, replies: Sequence[str]) -> tuple[float, float]:
        """How much value each seat's moves gave away against perfect play (an illegal one: all that was left)."""
        given = [0.0, 0.0]
        states = [state for state, illegal in self.replay(task, replies) if not illegal]
        for ply, (state, reply) in enumerate(zip(states, replies, strict=False)):
            if self.result(state) is None:
                values = self.values(state)
                given[ply % 2] += max(values.values()) - values.get(reply, -1.0)
        return given[0], given[1]

    def opponent(self, rng: Random, blunder: float = 0.0) -> Callable[[Ask], Reply]:
        """A player for a seat: perfect, but for a share `blunder` of its moves, which are any legal ones (1: chance)."""

        def answer(ask: Ask) -> Reply:
            state = self.read(ask.text.strip(" :"))
            blind = rng.random() < blunder
            move = rng.choice(self.moves(state)) if blind else self.perfect(state, rng)
            return Reply(f" {move};" if ask.role == "text" else move)

        return answer

    # What is read and imitated

    def demonstration(self, task: Task) -> list[Message]:
        """One seat's side of a perfect game; of a train task, up to the first position that is of another split."""
        rng = Random(task.problem)
        turns = list(self._perfect_game(self.start(task), rng))[rng.choice(self.seats) :: 2]
        if self._split(self.start(task)) == "train":
            turns = takewhile(lambda turn: self._split(turn[0]) == "train", turns)
        told = [(Message("user", self.show(state)), Message("assistant", move)) for state, move in turns]
        return [message for pair in told for message in pair]

    def document(self, rng: Random) -> Document:
        """One line: a perfect game from a train start, as one of its seats saw it."""
        for _ in range(PATIENCE):
            task = draw_train(self.draw, rng, self._family)
            plies = list(self._perfect_game(self.start(task), rng))
            seat = rng.choice(self.seats)
            mine = plies[seat::2]
            if all(self._split(state) == "train" for state, _ in mine):
                result = self.result(self.after(*plies[-1]))
                assert result is not None
                won = result if len(plies) % 2 == seat else -result
                said = "; ".join(f"{self.show(state)}: {move}" for state, move in mine)
                return [(f"{said}. {_word(won)}\n", True)]
        raise UserError(
            f"world {self.name}: found no game within the train split; widen the world's settings"
        )

    def _split(self, state: State) -> str:
        return split_of(self.family(state))

    def _perfect_game(self, state: State, rng: Random) -> Iterator[tuple[State, str]]:
        """Every position of a perfect game and the move made there."""
        while self.result(state) is None:
            move = self.perfect(state, rng)
            yield state, move
            state = self.after(state, move)


def _word(won: float) -> str:
    return "won" if won > 0 else "lost" if won < 0 else "drawn"
