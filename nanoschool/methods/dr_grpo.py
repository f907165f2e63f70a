"""dr_grpo: GRPO done right (2503.20783): no division by the group's deviation, nor by an answer's own length.

The loss is summed over the tokens and divided by a constant, attempts × longest answer (the authors' code; TRL's
`dr_grpo`): a long wrong answer is not punished less for each token, and a step in which few groups teach is a small one.
What we changed from the paper: the clip stays, but by default one on-policy step a batch leaves it nothing to do; an
attempt of several replies may be longer than the constant, which bounds a reply; replay is divided by it as well.
"""

from dataclasses import dataclass

from torch import Tensor

from nanoschool.core.batch import Batch, Totals
from nanoschool.credit import by_group, clipped, less_mean, ratio
from nanoschool.methods.base import require
from nanoschool.methods.reuse import Reuse
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class DrGRPO(Reuse):
    clip: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.clip >= 0, self, f"clip={self.clip} must be 0 or more")

    def advantages(self, trajectories: list[Trajectory]) -> list[float]:
        """A_i = R_i − mean over the group."""
        return by_group([t.group for t in trajectories], [t.rewards for t in trajectories], less_mean)

    def objective(self, logprobs_BT: Tensor, batch: Batch) -> Tensor:
        return clipped(ratio(logprobs_BT, batch.logprobs), batch.weights, self.clip, self.clip)

    def aggregate(self, loss_BT: Tensor, batch: Batch, totals: Totals) -> Tensor:
        attempts = self.problems * self.samples / self.minibatches
        return loss_BT[batch.mask].sum() / (attempts * self.max_tokens)


METHOD = DrGRPO
