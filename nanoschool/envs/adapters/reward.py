"""reward: any world, scored by a user's own function: `--reward mine.py:score`, where score(task, reply) -> float.

The world asks and ends as before; what it would pay on the way and at the end gives way to the function. `reply` is the
last thing that the seat said, a str; `task` has the fields world, problem and data. What the world itself would have paid
at the end stays in `info`, as "world_reward".
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanoschool.types import Ask, Environment, Episode, Outcome, Reply, Task, UserError
from nanoschool.userfile import complaint, import_file, in_words

Score = Callable[[Task, str], float]
STILL_TRUE = {"guess", "answer_space", "demonstration", "document", "steps", "opponent"}
STILL_TRUE |= {"invite", "items", "playbook", "secrets"}


@dataclass(frozen=True)
class Rewarded:
    """`world` with `score` for a reward; `source` is where the function stands, FILE:NAME."""

    world: Environment
    score: Score
    source: str

    def __post_init__(self) -> None:
        """What the world says of itself and its replies holds under any reward; what its oracle says does not.

        It is set and not delegated: from Python 3.12 on, isinstance() of a protocol sees only what is there.
        """
        for name in STILL_TRUE:
            if hasattr(self.world, name):
                object.__setattr__(self, name, getattr(self.world, name))

    @property
    def name(self) -> str:
        return self.world.name

    @property
    def replayable(self) -> bool:
        return self.world.replayable

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]:
        return self.world.tasks(split, count, seed)

    def play(self, task: Task) -> Episode:
        episode = self.world.play(task)
        said: dict[int, str] = {}
        try:
            ask = next(episode)
            while True:
                reply: Reply = yield Ask(ask.text, ask.seat, ask.role, ask.stop, ask.max_tokens)
                said[ask.seat] = reply.text
                ask = episode.send(reply)
        except StopIteration as end:
            outcome: Outcome = end.value
        seats = len(outcome.rewards) if outcome.rewards is not None else 1
        rewards = tuple(self._value(task, said.get(seat, "")) for seat in range(seats))
        return Outcome(rewards, outcome.feedback, {**outcome.info, "world_reward": outcome.rewards})

    def try_out(self) -> None:
        """Ask the function about a train task and an empty reply. UserError where it is not a number that it gives."""
        self._value(self.tasks("train", 1)[0], "")

    def _value(self, task: Task, reply: str) -> float:
        try:
            value = self.score(task, reply)
        except Exception as error:  # the function is the user's: its own line is what they need
            raise UserError(f"reward {self.source}: {complaint(error) or in_words(error)}") from None
        if not isinstance(value, int | float):
            raise UserError(f"reward {self.source}: gave {value!r} to {task.problem!r}; return a number")
        if not math.isfinite(value):
            raise UserError(f"reward {self.source}: gave {value} to {task.problem!r}; return a finite number")
        return float(value)


def rewarded(world: Environment, source: str) -> Rewarded:
    """`world` under the function that `source`, FILE.py:NAME, names. Raises UserError where there is none."""
    file, _, name = source.rpartition(":")
    path = Path(file)
    if not file.endswith(".py") or not name:
        raise UserError(f"reward {source}: write FILE.py:FUNCTION, such as mine.py:score")
    score = vars(import_file(path, "reward")).get(name)
    if not callable(score):
        raise UserError(f"reward {source}: {file} has no function {name}; write def {name}(task, reply): …")
    return Rewarded(world, score, source)
