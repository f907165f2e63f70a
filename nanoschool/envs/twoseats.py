"""twoseats: what games of two seats share: moves as replies, the truth about a move, games as conversations and as lines.

Seat 0 moves first from the task's start, and the seats alternate. What one wins the other loses, from -1 to 1. A reply
must be a legal move and nothing else, or its seat loses at once (-1) and the feedback says why. Every ask shows all
that its seat may know, so old moves need not be remembered, and an opponent can be had that sees asks only.

As raw text a game is one line, of what one seat saw and said: `nim 3 5 2: 5-4; nim 3 1: 3-2; nim 1: 1-1. won`.

Splits part the positions that games start from, and all that is read or imitated: no document, and no demonstration of
a train task, asks about a position of another split. Play itself goes where the players take it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from random import Random
from typing import ClassVar, Generic, TypeVar

from nanoschool.envs.common import PATIENCE, draw, draw_train, split_of
from nanoschool.types import Ask, Document, Episode, Message, Oracle, Outcome, Reply, Task, UserError

SEATS = ("the first player", "the second player")
TOKENS = 12  # no move takes more, even one letter at a time

State = TypeVar("State")


class TwoSeats(ABC, Generic[State]):
    """Base of these worlds: a subclass says how the game goes, what each move is worth, and how it is told."""

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("line",)
    seats: ClassVar[tuple[int, ...]] = (
        0,
    )  # whose side documents tell; a start on a board may be anyone's turn

    @property
    @abstractmethod
    def name(self) -> str: ...

    # The rules

    @abstractmethod
    def start(self, task: Task) -> State: ...

    @abstractmethod
    def moves(self, state: State) -> Sequence[str]:
        """The legal replies of the seat to move."""

    @abstractmethod
    def after(self, state: State, move: str) -> State: ...

    @abstractmethod
    def result(self, state: State) -> float | None:
        """What a finished game gives the seat whose turn it would be; None while the game goes on."""

    # The truth

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

    # The words

    @abstractmethod
    def show(self, state: State) -> str:
        """All that the seat to move may know, which is all that it is told."""

    @abstractmethod
    def read(self, shown: str) -> State:
        """The state as far as `show` tells it: what a scripted opponent goes by."""

    @abstractmethod
    def fault(self, state: State, reply: str) -> str:
        """Why a reply is no legal move."""

    # The tasks

    @abstractmethod
    def draw(self, rng: Random) -> Task:
        """A start, as chance has it."""

    @abstractmethod
    def family(self, state: State) -> str:
        """The text that decides a state's split."""

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self.draw, split, count, seed, self._family)

    # Playing

    def play(self, task: Task) -> Episode:
        state, seat, plies = self.start(task), 0, 0
        while (result := self.result(state)) is None:
            reply = yield Ask(self.show(state), seat=seat, max_tokens=TOKENS)
            if reply.text not in self.moves(state):
                return _lost(seat, plies, self.fault(state, reply.text))
            state, seat, plies = self.after(state, reply.text), 1 - seat, plies + 1
        return _over(seat, plies, result)

    def complete(self, task: Task, format: str) -> Episode:
        """Each seat goes on with its own line of raw text; punctuation ends a move."""
        assert format in self.formats, format
        state, seat, plies = self.start(task), 0, 0
        while (result := self.result(state)) is None:
            text = f"{' ' * (plies > 1)}{self.show(state)}:"
            reply = yield Ask(text, seat, role="text", stop=(";", ".", "\n"), max_tokens=TOKENS)
            move = reply.text.strip(" ;.\n")
            if move not in self.moves(state):
                return _lost(seat, plies, self.fault(state, move))
            state, seat, plies = self.after(state, move), 1 - seat, plies + 1
        return _over(seat, plies, result)

    def opponent(self, rng: Random, blunder: float = 0.0) -> Callable[[Ask], Reply]:
        """A player for a seat: perfect, but for a share `blunder` of its moves, which are any legal ones (1: chance)."""

        def answer(ask: Ask) -> Reply:
            state = self.read(ask.text.strip(" :"))
            blind = rng.random() < blunder
            move = rng.choice(self.moves(state)) if blind else self.perfect(state, rng)
            return Reply(f" {move};" if ask.role == "text" else move)

        return answer

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        """A legal move, each with the same chance. `replies` must not have ended the game."""
        *_, (state, _) = self._replay(task, replies)
        return rng.choice(self.moves(state))

    def answer_space(self, task: Task) -> int:
        return len(self.moves(self.start(task)))

    # What is known of a game under way

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle:
        """The value to the seat to move; after the end, what the seat that spoke last has got.

        `replies` are both seats', in their order. A partial reply that no legal move begins with has lost; one that
        no best move begins with is wrong from its first character on.
        """
        *_, (state, fault) = self._replay(task, replies)
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
        states = [state for state, _ in self._replay(task, replies)]
        for ply, (state, reply) in enumerate(zip(states, replies, strict=False)):
            if self.result(state) is None:
                values = self.values(state)
                given[ply % 2] += max(values.values()) - values.get(reply, -1.0)
        return given[0], given[1]

    # What is read and imitated

    def demonstration(self, task: Task) -> list[Message]:
        """Seat 0's side of a perfect game; of a train task, up to the first position that is of another split."""
        turns = self._seen(task, 0, Random(task.problem))
        if self._family_split(self.start(task)) == "train":
            turns = takewhile(lambda turn: self._family_split(turn[0]) == "train", turns)
        told = [(Message("user", self.show(state)), Message("assistant", move)) for state, move in turns]
        return [message for pair in told for message in pair]

    def document(self, rng: Random) -> Document:
        """One line: a perfect game from a train start, as one of its seats saw it."""
        for _ in range(PATIENCE):
            task = draw_train(self.draw, rng, self._family)
            plies = list(self._game(self.start(task), rng))
            seat = rng.choice(self.seats)
            mine = plies[seat::2]
            if all(self._family_split(state) == "train" for state, _ in mine):
                result = self.result(self.after(*plies[-1]))
                assert result is not None
                won = result if len(plies) % 2 == seat else -result
                said = "; ".join(f"{self.show(state)}: {move}" for state, move in mine)
                return [(f"{said}. {_word(won)}\n", True)]
        raise UserError(
            f"world {self.name}: found no game within the train split; widen the world's settings"
        )

    # Within

    def _family(self, task: Task) -> str:
        return self.family(self.start(task))

    def _family_split(self, state: State) -> str:
        return split_of(self.family(state))

    def _game(self, state: State, rng: Random) -> Iterator[tuple[State, str]]:
        """Every position of a perfect game and the move made there."""
        while self.result(state) is None:
            move = self.perfect(state, rng)
            yield state, move
            state = self.after(state, move)

    def _seen(self, task: Task, seat: int, rng: Random) -> Iterator[tuple[State, str]]:
        for ply, turn in enumerate(self._game(self.start(task), rng)):
            if ply % 2 == seat:
                yield turn

    def _replay(self, task: Task, replies: Sequence[str]) -> Iterator[tuple[State, bool]]:
        """The start, and the state after each reply, up to one that is illegal; with whether it was."""
        state = self.start(task)
        yield state, False
        for reply in replies:
            if self.result(state) is not None:
                return
            if reply not in self.moves(state):
                yield state, True
                return
            state = self.after(state, reply)
            yield state, False


def _word(won: float) -> str:
    return "won" if won > 0 else "lost" if won < 0 else "drawn"


def _over(seat: int, plies: int, result: float) -> Outcome:
    """A finished game; `result` is that of the seat whose turn it would be."""
    other = 0.0 - result  # so that a draw is 0.0 to both
    rewards = (result, other) if seat == 0 else (other, result)
    winner = None if not result else seat if result > 0 else 1 - seat
    feedback = "the game is drawn" if winner is None else f"{SEATS[winner]} has won"
    return Outcome(rewards, feedback, {"wellformed": True, "plies": plies, "winner": winner})


def _lost(seat: int, plies: int, fault: str) -> Outcome:
    rewards = (-1.0, 1.0) if seat == 0 else (1.0, -1.0)
    info = {"wellformed": False, "plies": plies, "winner": 1 - seat}
    return Outcome(rewards, f"{SEATS[seat]} has lost by an illegal move: {fault}", info)
