"""rloo: REINFORCE with the leave-one-out mean of the group as baseline, and the KL in the reward (2402.14740).

R_i = r_i − β (log π(y_i|x) − log π_ref(y_i|x)), k1 over the whole attempt (Eq. 3); β is 0 unless given, as it is for a
learned reward. What we changed from the paper: one on-policy step a batch, so there is no ratio and no clip; the loss is the
mean over the tokens of the attempts that have an advantage, and of the demonstrations replayed beside them.
"""

from dataclasses import dataclass

from nanoschool.core.batch import Batch
from nanoschool.credit import by_group, leave_one_out
from nanoschool.methods.base import Learner
from nanoschool.methods.held import Held
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class RLOO(Held):
    def advantages(self, trajectories: list[Trajectory]) -> list[float]:
        """A_i = R_i − mean of the others' R (Eq. 8)."""
        return by_group([t.group for t in trajectories], [self.worth(t) for t in trajectories], leave_one_out)

    def worth(self, t: Trajectory) -> float | None:
        if t.rewards is None or not self.kl:
            return t.rewards
        return t.rewards - self.kl * sum(t.extra["k1"])

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        if not self.kl:
            return super().credit(learner, trajectories)
        for t, row in zip(trajectories, self.k1(learner, Batch.of(trajectories)).tolist(), strict=True):
            t.extra["k1"] = row[: len(t.tokens)]
        mean = sum(sum(t.extra["k1"]) for t in trajectories) / len(trajectories)
        return super().credit(learner, trajectories) | {"kl": mean}


METHOD = RLOO
