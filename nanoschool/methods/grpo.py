"""grpo: group-relative policy optimisation (2402.03300): normalised group advantage, clipped ratio, k3 KL in the loss.

The paper's form: each attempt's tokens are averaged first, then the attempts (Eq. 3). With `epochs` 1 and
`minibatches` 1 the ratio is 1 and the gradient is REINFORCE's. Replayed demonstrations are imitated beside it.
What we changed from the paper: groups whose rewards are all equal are left out before the loss, so they are not held by
the KL term and do not count in Eq. 3's mean; the old policy's log-probabilities are those the engine recorded.
"""

from dataclasses import dataclass

from torch import Tensor

from nanoschool.core.batch import Batch, Totals
from nanoschool.credit import by_group, clipped, group_normalised, kl_k3, ratio, sequence_mean_of_token_means
from nanoschool.methods.base import Learner, require
from nanoschool.methods.held import Held
from nanoschool.methods.reuse import Reuse
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class GRPO(Held, Reuse):
    clip: float = 0.2
    kl: float = 0.04  # beta, on the k3 estimate against the stage's first weights

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.clip >= 0, self, f"clip={self.clip} must be 0 or more")

    def advantages(self, trajectories: list[Trajectory]) -> list[float]:
        """A_i = (R_i − mean) / (std + 1e-6) over the group."""
        return by_group([t.group for t in trajectories], [t.rewards for t in trajectories], group_normalised)

    def assemble(self, learner: Learner, useful: list[Trajectory], kept: list[Trajectory]) -> Batch:
        batch = super().assemble(learner, useful, kept)
        if self.kl:
            batch.extra["reference"] = learner.reference_logprobs(batch)
        return batch

    def objective(self, logprobs_BT: Tensor, batch: Batch) -> Tensor:
        surrogate = clipped(ratio(logprobs_BT, batch.logprobs), batch.weights, self.clip, self.clip)
        if not self.kl:
            return surrogate
        return surrogate + self.kl * kl_k3(logprobs_BT, batch.extra["reference"])

    def aggregate(self, loss_BT: Tensor, batch: Batch, totals: Totals) -> Tensor:
        return sequence_mean_of_token_means(loss_BT, batch.mask, totals.sequences)


METHOD = GRPO
