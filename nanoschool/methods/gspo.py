"""gspo: the ratio and its clip are the whole answer's, the geometric mean of its tokens' (2507.18071).

The token form (Eq. 13): each token has the sequence's ratio and a gradient through its own log-probability, so advantages
may differ from token to token. Advantages are GRPO's; no KL term; answers are averaged, not tokens (Eq. 5).
What we changed from the paper: two minibatches a batch, not four, and a wider clip (the paper's, 3e-4 below and 4e-4
above, is for learning rates 400 times smaller); groups whose rewards are all equal do not count in Eq. 5's mean.
"""

from dataclasses import dataclass

from torch import Tensor

from nanoschool.core.batch import Batch, Totals
from nanoschool.credit import (
    by_group,
    clipped,
    group_normalised,
    sequence_mean_of_token_means,
    sequence_ratio,
)
from nanoschool.methods.base import require
from nanoschool.methods.reuse import Reuse
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class GSPO(Reuse):
    minibatches: int = 2
    clip: float = 0.03
    clip_high: float = 0.04

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("clip", "clip_high"):
            value = getattr(self, setting)
            require(value >= 0, self, f"{setting}={value} must be 0 or more")

    def advantages(self, trajectories: list[Trajectory]) -> list[float]:
        """A_i = (R_i − mean) / (std + 1e-6) over the group (Eq. 6)."""
        return by_group([t.group for t in trajectories], [t.rewards for t in trajectories], group_normalised)

    def objective(self, logprobs_BT: Tensor, batch: Batch) -> Tensor:
        ratio_BT = sequence_ratio(logprobs_BT, batch.logprobs, batch.mask)
        return clipped(ratio_BT, batch.weights, self.clip, self.clip_high)

    def aggregate(self, loss_BT: Tensor, batch: Batch, totals: Totals) -> Tensor:
        return sequence_mean_of_token_means(loss_BT, batch.mask, totals.sequences)


METHOD = GSPO
