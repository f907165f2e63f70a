"""kuhn: poker of three cards, each player seeing only his own (Kuhn 1950); worth -1/18 of an ante to the first player.

Asked `kuhn 3 8 12, you hold 8: check`: the deck, one's own card, and what was done so far. Replies are `check` or `bet`,
and to a bet `fold` or `call`. The deck is three different numbers, so that unseen decks can be asked for; a deck and all
its deals are of one split. The reward is the antes won, halved: 0.5 or 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, NamedTuple

from nanoschool.envs import kuhn_equilibrium as theory
from nanoschool.envs.common import require
from nanoschool.envs.perfectplay import PerfectPlay
from nanoschool.types import Task

MOST = 2  # antes that a hand can win
HIDDEN = 0  # stands for a card that one does not see


class Hand(NamedTuple):
    deck: tuple[int, ...]  # ascending
    cards: tuple[int, int]  # by seat
    history: theory.History


@dataclass(frozen=True)
class Kuhn(PerfectPlay[Hand]):
    """Decks of three numbers from 1 to `highest`."""

    highest: int = 20
    name: str = "kuhn"

    seats: ClassVar[tuple[int, ...]] = (0, 1)

    def __post_init__(self) -> None:
        require(3 <= self.highest <= 999, self.name, f"highest={self.highest} must be from 3 to 999")

    def draw(self, rng: Random) -> Task:
        deck = sorted(rng.sample(range(1, self.highest + 1), 3))
        cards = rng.sample(deck, 2)
        problem = f"{self.name} {' '.join(map(str, deck))}: {cards[0]} {cards[1]}"
        return Task(self.name, problem, {"deck": deck, "cards": cards})

    def family(self, state: Hand) -> str:
        return f"{self.name} {' '.join(map(str, state.deck))}"

    def start(self, task: Task) -> Hand:
        first, second = task.data["cards"]
        return Hand(tuple(task.data["deck"]), (first, second), ())

    def moves(self, state: Hand) -> Sequence[str]:
        return theory.options(state.history)

    def after(self, state: Hand, move: str) -> Hand:
        return state._replace(history=(*state.history, move))

    def result(self, state: Hand) -> float | None:
        if state.history in theory.TURNS:
            return None
        first, second = (state.deck.index(card) for card in state.cards)
        won = theory.payoff(state.history, (first, second))
        assert won is not None
        return (won if len(state.history) % 2 == 0 else -won) / MOST

    def values(self, state: Hand) -> Mapping[str, float]:
        """Against an opponent who plays the equilibrium, over the cards that it may hold."""
        worth = theory.move_values(self.rank(state), state.history)
        return {move: float(value) / MOST for move, value in worth.items()}

    def perfect(self, state: Hand, rng: Random) -> str:
        """Drawn from the equilibrium."""
        bold = rng.random() < theory.EQUILIBRIUM[self.rank(state), state.history]
        return theory.options(state.history)[bold]

    def entropy_bits(self, state: Hand) -> float:
        return theory.entropy_bits(self.rank(state), state.history)

    def rank(self, state: Hand) -> int:
        """Of the card that the player to move holds: 0, 1 or 2."""
        return state.deck.index(state.cards[len(state.history) % 2])

    def strategy(self, games: Iterable[tuple[Task, Sequence[str]]]) -> theory.Strategy:
        """How games were played, both seats' legal replies in their order: what `exploitability` takes."""
        turns = (
            (state, reply)
            for task, replies in games
            for (state, _), reply in zip(self.replay(task, replies), replies, strict=False)
        )
        return theory.observed(
            (self.rank(state), state.history, reply) for state, reply in turns if reply in self.moves(state)
        )

    def show(self, state: Hand) -> str:
        own = state.cards[len(state.history) % 2]
        seen = f"{self.name} {' '.join(map(str, state.deck))}, you hold {own}"
        return f"{seen}: {' '.join(state.history)}" if state.history else seen

    def read(self, shown: str) -> Hand:
        deck, _, rest = shown.partition(", you hold ")
        own, _, history = rest.partition(":")
        done = tuple(history.split())
        cards = (HIDDEN, int(own)) if len(done) % 2 else (int(own), HIDDEN)
        return Hand(tuple(map(int, deck.split()[1:])), cards, done)

    def fault(self, state: Hand, reply: str) -> str:
        return f"write {' or '.join(self.moves(state))}"


WORLD = Kuhn()
