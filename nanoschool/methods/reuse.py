"""Reuse: practice whose attempts are fitted in several optimizer steps, so that a ratio to the policy that sampled matters.

A paper says what a sampled token's loss is (`objective`) and how the tokens of a step are averaged (`aggregate`). Replayed
demonstrations are imitated beside them. With `epochs` 1 and `minibatches` 1 every ratio is 1.
"""

from dataclasses import dataclass

from torch import Tensor

from nanoschool.core.batch import Batch, Totals
from nanoschool.credit import token_mean
from nanoschool.methods import shown
from nanoschool.methods.base import Learner, require
from nanoschool.methods.practice import Practice
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class Reuse(Practice):
    epochs: int = 1
    minibatches: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("epochs", "minibatches"):
            value = getattr(self, setting)
            require(value >= 1, self, f"{setting}={value} must be at least 1")

    def objective(self, logprobs_BT: Tensor, batch: Batch) -> Tensor:
        """The loss of each sampled token, (B, T); `batch.weights` are the advantages."""
        raise TypeError(f"{type(self).__name__} defines no objective()")

    def aggregate(self, loss_BT: Tensor, batch: Batch, totals: Totals) -> Tensor:
        return token_mean(loss_BT, batch.mask, totals.tokens)

    def loss(self, logprobs_BT: Tensor, batch: Batch, totals: Totals) -> Tensor:
        imitation_BT = -batch.weights * logprobs_BT
        loss_BT = self.objective(logprobs_BT, batch).where(batch.extra["sampled"] > 0, imitation_BT)
        return self.aggregate(loss_BT, batch, totals)

    def assemble(self, learner: Learner, useful: list[Trajectory], kept: list[Trajectory]) -> Batch:
        """One batch of attempts and demonstrations, with whatever else the objective reads."""
        for trajectories, sampled in ((useful, 1.0), (kept, 0.0)):
            for trajectory in trajectories:
                trajectory.extra["sampled"] = [sampled] * len(trajectory.tokens)
        return Batch.of(useful + kept)

    def update(
        self, learner: Learner, useful: list[Trajectory], kept: list[Trajectory], scale: float
    ) -> dict[str, float]:
        return shown.fit(
            learner.policy,
            self.assemble(learner, useful, kept),
            self.loss,
            scale=scale,
            epochs=self.epochs,
            minibatches=self.minibatches,
            seed=learner.draw_seed("minibatches"),
        )
