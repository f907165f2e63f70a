"""rloo: REINFORCE with the leave-one-out mean of the group as baseline (2402.14740).

What we changed from the paper: one on-policy step a batch, so there is no ratio and no clip; no KL term; the loss is the
mean over the tokens of the attempts that have an advantage, and of the demonstrations replayed beside them.
"""

from dataclasses import dataclass

from nanoschool.credit import by_group, leave_one_out
from nanoschool.methods.practice import Practice
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class RLOO(Practice):
    def advantages(self, trajectories: list[Trajectory]) -> list[float]:
        """A_i = R_i − mean of the others' R (Eq. 8)."""
        return by_group([t.group for t in trajectories], [t.rewards for t in trajectories], leave_one_out)


METHOD = RLOO
