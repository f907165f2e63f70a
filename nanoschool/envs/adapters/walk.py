"""walk: one episode of ours, driven from outside one reply at a time; what the adapters outwards share."""

from collections.abc import Callable, Mapping
from typing import Any

from nanoschool.types import Ask, Environment, Outcome, Reply, Task, UserError

Opponent = Callable[[Ask], Reply]


class Walk:
    """Seat 0 of an episode. `said` is what the world says now; `outcome` is set when it has ended.

    `reward` is what seat 0 earned so far: what came with asks, and at the end what the outcome gives. Opponents answer
    for other seats; raises UserError where a seat has none.
    """

    def __init__(
        self, world: Environment, task: Task, opponents: Mapping[int, Opponent] | None = None
    ) -> None:
        self.world, self.task, self.opponents = world, task, opponents or {}
        self.episode = world.play(task)
        self.said, self.reward = "", 0.0
        self.stop: tuple[str, ...] = ()
        self.outcome: Outcome | None = None
        self._advance(None)

    def say(self, text: str) -> None:
        """Give seat 0's reply. Raises UserError after the end."""
        if self.outcome is not None:
            raise UserError(f"world {self.world.name}: the episode has ended; reset it before the next reply")
        self._advance(Reply(text, "stop" if any(mark in text for mark in self.stop) else "end"))

    def _advance(self, reply: Reply | None) -> None:
        try:
            ask = next(self.episode) if reply is None else self.episode.send(reply)
            while ask.seat != 0:
                if ask.seat not in self.opponents:
                    raise UserError(
                        f"world {self.world.name}: seat {ask.seat} plays too; give it an opponent"
                    )
                ask = self.episode.send(self.opponents[ask.seat](ask))
            self.said, self.stop, self.reward = ask.text, ask.stop, self.reward + ask.reward
        except StopIteration as end:
            outcome: Outcome = end.value
            self.outcome, self.said = outcome, outcome.feedback
            self.reward += outcome.rewards[0] if outcome.rewards is not None else 0.0

    def info(self) -> dict[str, Any]:
        return dict(self.outcome.info) if self.outcome is not None else {}
