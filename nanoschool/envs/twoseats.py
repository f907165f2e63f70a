"""twoseats: what games of two seats share: moves as replies, and games as conversations and as lines of raw text.

Seat 0 moves first from the task's start, and the seats alternate. What one wins the other loses, from -1 to 1. A reply
must be a legal move and nothing else, or its seat loses at once (-1) and the feedback says why. Every ask shows all
that its seat may know, so old moves need not be remembered.

As raw text a game is one line, of what one seat saw and said: `nim 3 5 2: 5-4; nim 3 1: 3-2; nim 1: 1-1. won`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import ClassVar, Generic, TypeVar

from nanoschool.envs.common import draw
from nanoschool.types import Ask, Episode, Outcome, Task

SEATS = ("the first player", "the second player")
TOKENS = 12  # no move takes more, even one letter at a time

State = TypeVar("State")


class TwoSeats(ABC, Generic[State]):
    """Base of these worlds: a subclass says how the game goes and how it is told."""

    replayable: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = ("line",)

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

    # The words

    @abstractmethod
    def show(self, state: State) -> str:
        """All that the seat to move may know, which is all that it is told."""

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
        return self._game(task, lambda state, plies: Ask(self.show(state), plies % 2, max_tokens=TOKENS), str)

    def complete(self, task: Task, format: str) -> Episode:
        """Each seat goes on with its own line of raw text; punctuation ends a move."""
        assert format in self.formats, format

        def ask(state: State, plies: int) -> Ask:
            text = f"{' ' * (plies > 1)}{self.show(state)}:"
            return Ask(text, plies % 2, role="text", stop=(";", ".", "\n"), max_tokens=TOKENS)

        return self._game(task, ask, lambda text: text.strip(" ;.\n"))

    def _game(self, task: Task, ask: Callable[[State, int], Ask], move_in: Callable[[str], str]) -> Episode:
        """Ask the seats in turn, and take the move that is in each reply."""
        state, plies = self.start(task), 0
        while (result := self.result(state)) is None:
            reply = yield ask(state, plies)
            move = move_in(reply.text)
            if move not in self.moves(state):
                return _lost(plies, self.fault(state, move))
            state, plies = self.after(state, move), plies + 1
        return _over(plies, result)

    def guess(self, task: Task, replies: Sequence[str], rng: Random) -> str:
        """A legal move, each with the same chance. `replies` must not have ended the game."""
        *_, (state, _) = self.replay(task, replies)
        return rng.choice(self.moves(state))

    def answer_space(self, task: Task) -> int:
        return len(self.moves(self.start(task)))

    def replay(self, task: Task, replies: Sequence[str]) -> Iterator[tuple[State, bool]]:
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

    def _family(self, task: Task) -> str:
        return self.family(self.start(task))


def _over(plies: int, result: float) -> Outcome:
    """A game finished after `plies` moves; `result` is that of the seat whose turn it would be."""
    seat, other = plies % 2, 0.0 - result  # so that a draw is 0.0 to both
    rewards = (result, other) if seat == 0 else (other, result)
    winner = None if not result else seat if result > 0 else 1 - seat
    feedback = "the game is drawn" if winner is None else f"{SEATS[winner]} has won"
    return Outcome(rewards, feedback, {"wellformed": True, "plies": plies, "winner": winner})


def _lost(plies: int, fault: str) -> Outcome:
    seat = plies % 2
    rewards = (-1.0, 1.0) if seat == 0 else (1.0, -1.0)
    info = {"wellformed": False, "plies": plies, "winner": 1 - seat}
    return Outcome(rewards, f"{SEATS[seat]} has lost by an illegal move: {fault}", info)
