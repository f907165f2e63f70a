"""Surrogate: practice whose credit differs from token to token, fitted by PPO's clipped surrogate, averaged over tokens.

A method says what each token is worth (`worth`); it is whitened over the batch's sampled tokens, as PPO's code does.
Replayed demonstrations are imitated beside it. With `epochs` 1 and `minibatches` 1 the ratio is 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nanoschool.core.batch import Batch, Totals
from nanoschool.credit import clipped, ratio
from nanoschool.methods import shown
from nanoschool.methods.base import Learner, require
from nanoschool.methods.practice import Practice, measures
from nanoschool.stepwise import whitened
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class Surrogate(Practice):
    clip: float = 0.2
    epochs: int = 1
    minibatches: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("epochs", "minibatches"):
            value = getattr(self, setting)
            require(value >= 1, self, f"{setting}={value} must be at least 1")
        require(self.clip >= 0, self, f"clip={self.clip} must be 0 or more")

    def begin(self, learner: Learner) -> None:
        assert learner.env is not None, "the stage names a world"
        self.check(learner.env)
        super().begin(learner)

    def worth(self, learner: Learner, trajectories: list[Trajectory]) -> Sequence[Sequence[float]]:
        """An advantage for each token of each attempt; only those that the policy sampled count."""
        raise TypeError(f"{type(self).__name__} defines no worth()")

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        """Attempts that the world does not score are left out of the statistics and are worth 0."""
        scored = [t for t in trajectories if t.rewards is not None]
        if scored:
            worth = self.worth(learner, scored)
            for trajectory, weights in zip(scored, whitened(worth, [t.mask for t in scored]), strict=True):
                trajectory.weights = weights
        return measures(trajectories)

    def update(
        self, learner: Learner, useful: list[Trajectory], kept: list[Trajectory], scale: float
    ) -> dict[str, float]:
        for trajectories, sampled in ((useful, 1.0), (kept, 0.0)):
            for trajectory in trajectories:
                trajectory.extra["sampled"] = [sampled] * len(trajectory.tokens)
        return shown.fit(
            learner.policy,
            useful + kept,
            self.loss,
            scale=scale,
            epochs=self.epochs,
            minibatches=self.minibatches,
            seed=learner.draw_seed("minibatches"),
        )

    def loss(self, logprobs_BT: Tensor, batch: Batch, totals: Totals) -> Tensor:
        objective = clipped(ratio(logprobs_BT, batch.logprobs), batch.weights, self.clip, self.clip)
        per_token = objective.where(batch.extra["sampled"] > 0, -batch.weights * logprobs_BT)
        return per_token[batch.mask].sum() / max(totals.tokens, 1)
