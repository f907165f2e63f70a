"""ta: TextArena's games by id, `ta:TicTacToe-v0`, with their seats and their -1 … 1 (Guertler et al. 2025, 2504.11442).

A task is a seed. TextArena draws from Python's random and from numpy's, both global to the process: they are swapped
in and out around every move, so that episodes side by side do not disturb each other, and replies can be replayed. Each
ask holds what is new to that seat. A game whose opening does not depend on the seed is the same game in every split.
"""

import difflib
import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from nanoschool.envs.adapters import package
from nanoschool.envs.common import draw
from nanoschool.types import Ask, Episode, Outcome, Task, UserError

GAME = -1  # who speaks, where no player does
SEATS = (2, 1, 3, 4, 5, 6, 7, 8)  # tried in this order: a game that takes two players is played by two


@dataclass(frozen=True)
class TextArena:
    """One game. `seats` is how many play, as many as the game wants unless given; `turns` ends a game that does not end."""

    game: str
    seats: int = 0
    turns: int = 200

    replayable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ids = package("textarena", "textarena").envs.registration.ENV_REGISTRY
        if self.game not in ids:
            near = difflib.get_close_matches(self.game, ids, n=1, cutoff=0.0)[0]
            raise UserError(f"world {self.name}: unknown to TextArena: did you mean 'ta:{near}'?")
        object.__setattr__(self, "seats", self.seats or self._count())

    @property
    def name(self) -> str:
        return f"ta:{self.game}"

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return draw(self.name, self._task, split, count, seed)

    def play(self, task: Task) -> Episode:
        chance = _Chance(task.data["seed"])
        with chance.mine():
            game = self._open(task.data["seed"], self.seats)
        for _ in range(self.turns):
            with chance.mine():
                seat, heard = game.get_observation()
            reply = yield Ask(_said(seat, heard), seat=seat)
            try:
                with chance.mine():
                    done, _ = game.step(action=reply.text)
            except Exception as error:  # the game is theirs and the reply a model's: who breaks it loses
                lost = tuple(-1.0 if each == seat else 0.0 for each in range(self.seats))
                return Outcome(lost, info={"complaint": f"the game raised {type(error).__name__}"})
            if done:
                return self._outcome(*game.close())
        return Outcome((0.0,) * self.seats, info={"complaint": f"no end after {self.turns} turns"})

    def _outcome(self, rewards: Any, about: Any) -> Outcome:
        won = [float((rewards or {}).get(seat, 0.0)) for seat in range(self.seats)]
        reason = str(about.get(0, {}).get("reason", ""))
        invalid = [seat for seat in range(self.seats) if about.get(seat, {}).get("invalid_move")]
        return Outcome(
            tuple(min(max(value, -1.0), 1.0) for value in won), reason, {"reason": reason, "invalid": invalid}
        )

    def _task(self, rng: Random) -> Task:
        seed = rng.randrange(1 << 31)
        return Task(self.name, f"{self.name} {seed}", {"seed": seed})

    def _count(self) -> int:
        """How many players the game takes. Raises UserError where it starts with no number of them."""
        said = ""
        for seats in SEATS:
            try:
                with _Chance(0).mine():
                    self._open(0, seats)
            except Exception as error:  # an assertion of the game's about the number, or something it lacks
                said = said or f"{type(error).__name__}: {_first_words(str(error))}"
                continue
            return seats
        raise UserError(f"world {self.name}: the game does not start here ({said}); play another")

    def _open(self, seed: int, seats: int) -> Any:
        core = package("textarena.core", "textarena")
        game, layers = package("textarena", "textarena").make(self.game), []
        while isinstance(game, core.Wrapper):
            layers.append(game)
            game = game.env
        for layer in reversed(
            layers
        ):  # without those for observations, which repeat the whole game every turn
            if isinstance(layer, core.ActionWrapper):
                layer.env, game = game, layer
        game.reset(num_players=seats, seed=seed)
        return game


def world(game: str) -> TextArena:
    """The world of a TextArena id. Raises UserError for an unknown one, or one that does not start here."""
    return TextArena(game)


def _said(seat: int, heard: Sequence[tuple[int, str, Any]]) -> str:
    """What is new to a seat, apart from its own words."""
    lines = [(speaker, message.strip()) for speaker, message, _ in heard if speaker != seat]
    return "\n".join(line if speaker == GAME else f"Player {speaker}: {line}" for speaker, line in lines)


def _first_words(text: str) -> str:
    """The first line that has words in it: some errors are framed in stars."""
    return next(
        (line.strip() for line in text.splitlines() if any(c.isalpha() for c in line)), "no reason given"
    )


class _Chance:
    """The process's random numbers as one episode sees them."""

    def __init__(self, seed: int) -> None:
        self.numpy = package("numpy").random
        with _restored(self.numpy):
            random.seed(seed)
            self.numpy.seed(seed)
            self.state = random.getstate(), self.numpy.get_state()

    @contextmanager
    def mine(self) -> Generator[None]:
        """Swap the episode's numbers in, and at the end out."""
        with _restored(self.numpy):
            random.setstate(self.state[0])
            self.numpy.set_state(self.state[1])
            yield
            self.state = random.getstate(), self.numpy.get_state()


@contextmanager
def _restored(numpy: Any) -> Generator[None]:
    before = random.getstate(), numpy.get_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        numpy.set_state(before[1])
