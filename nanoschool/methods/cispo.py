"""cispo: REINFORCE whose importance weight is clipped, so that no token loses its gradient (MiniMax-M1, 2506.13585).

−sg(clip(ρ, 1 − clip, 1 + clip_high)) A log pi, averaged over the tokens of the step (Eq. 4); advantages are GRPO's;
no KL term. What we changed from the paper: it does not say its upper clip; ours caps it at 5, as ScaleRL (2510.13786)
does. There is none below, as in the paper. Two minibatches a batch.
"""

from dataclasses import dataclass

from torch import Tensor

from nanoschool.core.batch import Batch
from nanoschool.credit import by_group, group_normalised, ratio, truncated
from nanoschool.methods.base import require
from nanoschool.methods.reuse import Reuse
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class CISPO(Reuse):
    minibatches: int = 2
    clip: float = 1.0  # the weight is at least 1 − clip: 1.0 is no clip
    clip_high: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.clip <= 1, self, f"clip={self.clip} must be from 0 to 1")
        require(self.clip_high >= 0, self, f"clip_high={self.clip_high} must be 0 or more")

    def advantages(self, trajectories: list[Trajectory]) -> list[float]:
        """A_i = (R_i − mean) / (std + 1e-6) over the group (Eq. 2)."""
        return by_group([t.group for t in trajectories], [t.rewards for t in trajectories], group_normalised)

    def objective(self, logprobs_BT: Tensor, batch: Batch) -> Tensor:
        weight_BT = ratio(logprobs_BT, batch.logprobs)
        return truncated(weight_BT, batch.weights, logprobs_BT, self.clip, self.clip_high)


METHOD = CISPO
