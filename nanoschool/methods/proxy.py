"""Proxy: RLOO paid by something else than the world's reward, which it still reports: what the controls share.

A control says what each attempt is paid (`paid`). `reward` among the metrics is the world's, `paid` what was learned from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from nanoschool import bits
from nanoschool.methods.base import Learner
from nanoschool.methods.rloo import RLOO
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class Proxy(RLOO):
    judged: ClassVar[bool] = False  # it says itself who is paid what

    def paid(self, learner: Learner, trajectories: list[Trajectory]) -> Sequence[float | None]:
        """In the world's place; None is unscorable."""
        raise TypeError(f"{type(self).__name__} defines no paid()")

    def offered(self, learner: Learner, trajectories: list[Trajectory]) -> float:
        """Of what is paid in the reward's place."""
        return bits.of_groups([t.group for t in trajectories], self.paid(learner, trajectories))

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        paid = list(self.paid(learner, trajectories))
        standing_in = [replace(t, rewards=wage) for t, wage in zip(trajectories, paid, strict=True)]
        metrics = super().credit(learner, standing_in)
        for trajectory, its in zip(trajectories, standing_in, strict=True):
            trajectory.weights = its.weights
        scored = [t.rewards for t in trajectories if t.rewards is not None]
        return metrics | {"reward": sum(scored) / max(len(scored), 1), "paid": metrics["reward"]}
