"""reinforce_pp: REINFORCE++: no group, no critic: returns whitened over the whole batch, PPO's clip (2501.03262).

r_t = −β (log pi − log ref) on every sampled token, the attempt's reward on its last; returns to go, whitened over the
batch's sampled tokens. What a tool wrote is no step, so it hands the return on unchanged.
What we changed from the paper: a batch whose rewards are all equal is left out, so it is not held by the KL term (whitened,
that term alone would be as loud as a reward); an attempt that the world does not score stays out of the statistics.
"""

from dataclasses import dataclass

from torch import Tensor

from nanoschool.core.batch import Batch
from nanoschool.credit import clipped, ratio
from nanoschool.methods.base import Learner, require
from nanoschool.methods.held import Held
from nanoschool.methods.practice import measures
from nanoschool.methods.reuse import Reuse
from nanoschool.stepwise import gae, whitened
from nanoschool.types import Trajectory


@dataclass(frozen=True)
class ReinforcePP(Held, Reuse):
    clip: float = 0.2
    kl: float = 0.01  # beta, on the k1 estimate against the stage's first weights, in the reward
    gamma: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.clip >= 0, self, f"clip={self.clip} must be 0 or more")
        require(0 <= self.gamma <= 1, self, f"gamma={self.gamma} must be from 0 to 1")

    def credit(self, learner: Learner, trajectories: list[Trajectory]) -> dict[str, float]:
        scored = [t for t in trajectories if t.rewards is not None]
        if len({t.rewards for t in scored}) > 1:
            k1_BT = self.k1(learner, Batch.of(scored)).tolist()
            returns = [self.returns(t, k1[: len(t.tokens)]) for t, k1 in zip(scored, k1_BT, strict=True)]
            for trajectory, weights in zip(scored, whitened(returns, [t.mask for t in scored]), strict=True):
                trajectory.weights = weights
        return measures(trajectories)

    def returns(self, trajectory: Trajectory, k1: list[float]) -> list[float]:
        """G_t = Σ_{s≥t} γ^(s−t) r_s over sampled tokens: generalised advantages at λ = 1 with no values."""
        assert trajectory.rewards is not None, "it is scored"
        mask = trajectory.mask
        rewards = [-self.kl * x for x in k1]
        rewards[max((t for t, sampled in enumerate(mask) if sampled), default=0)] += trajectory.rewards
        return gae(rewards, [0.0] * len(mask), mask, self.gamma, lam=1.0)

    def objective(self, logprobs_BT: Tensor, batch: Batch) -> Tensor:
        return clipped(ratio(logprobs_BT, batch.logprobs), batch.weights, self.clip, self.clip)


METHOD = ReinforcePP
